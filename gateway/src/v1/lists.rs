//! Lists of this API: `{"items":[…]}`, in pages.

use axum::response::{IntoResponse, Response};
use proxmox_api::Value;
use serde_json::json;

use crate::json::Json;
use crate::pages::{Page, Query};
use crate::refusal::Refusal;

const MAX_ITEMS: u64 = 500;

/// The page that a query requests.
pub(super) fn page(query: Option<&str>) -> Result<Page, Refusal> {
    let page = Page::from_query(&Query::parse(query.unwrap_or_default()))?;
    let page = page.unwrap_or(Page {
        start: 0,
        limit: 50,
    });
    if page.limit == 0 || page.limit > MAX_ITEMS {
        let problem = format!("must be from 1 to {MAX_ITEMS}");
        return Err(Refusal::parameters([("limit", problem)]));
    }
    Ok(page)
}

/// A page of a list.
pub(super) fn answer(items: Vec<Value>, page: Page, total: u64, path: &str) -> Response {
    let mut response = Json(json!({ "items": items })).into_response();
    page.write(path, &Query::default(), total, response.headers_mut());
    response
}

/// The requested page of a complete list.
pub(super) fn cut(items: Vec<Value>, page: Page, path: &str) -> Response {
    let total = items.len() as u64;
    let start = usize::try_from(page.start).unwrap_or(usize::MAX);
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let items = items.into_iter().skip(start).take(limit).collect();
    answer(items, page, total, path)
}
