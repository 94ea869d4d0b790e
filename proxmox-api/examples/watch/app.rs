//! The content of the terminal, and the effect of keys, independent of the terminal itself.

use std::collections::BTreeMap;

use proxmox_api::manage::inventory::{Capacity, Inventory, Order, ResourceType, SortBy};
use proxmox_api::manage::metrics::{
    Consolidation, Series, SeriesSet, Timeframe, Unit, node_series,
};
use proxmox_api::{Client, Error};
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Row, Table};

const TIMEFRAMES: [Timeframe; 5] = [
    Timeframe::Hour,
    Timeframe::Day,
    Timeframe::Week,
    Timeframe::Month,
    Timeframe::Year,
];

/// The charts of a node: a title, and the names of the metrics, which differ between releases.
const CHARTS: [(&str, &[&str]); 4] = [
    ("processors", &["cpu", "iowait"]),
    ("memory", &["memused", "memtotal"]),
    ("network", &["netin", "netout"]),
    ("root file system", &["rootused", "roottotal"]),
];

/// The state of the program.
#[derive(Debug, Default)]
pub(crate) struct App {
    nodes: BTreeMap<String, Capacity>,
    guests: Vec<(String, String, String, f64, u64)>,
    series: SeriesSet,
    selected: usize,
    timeframe: usize,
    chart: usize,
    trouble: Option<String>,
    pub(crate) done: bool,
}

/// The next requests.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish {
    node: Option<String>,
    timeframe: Timeframe,
}

/// The answers of the cluster.
#[derive(Debug)]
pub(crate) struct News {
    inventory: Inventory,
    series: SeriesSet,
}

impl Wish {
    /// Reads everything that is shown. An offline node has no metrics; the rest is shown.
    pub(crate) async fn ask(self, pve: &Client) -> Result<News, Error> {
        let inventory = Inventory::fetch(pve).await?;
        let first = || inventory.capacity().into_keys().next();
        let series = match self.node.or_else(first) {
            Some(node) => {
                let series = node_series(pve, &node, self.timeframe, Consolidation::Average);
                match series.await {
                    Err(error) if error.is_retryable() => SeriesSet::default(),
                    read => read?,
                }
            }
            None => SeriesSet::default(),
        };
        Ok(News { inventory, series })
    }
}

impl App {
    pub(crate) fn wish(&self) -> Wish {
        Wish {
            node: self.node().map(str::to_owned),
            timeframe: TIMEFRAMES[self.timeframe],
        }
    }

    fn node(&self) -> Option<&str> {
        self.nodes.keys().nth(self.selected).map(String::as_str)
    }

    /// The effect of a key; true if other data is needed.
    pub(crate) fn press(&mut self, key: KeyCode) -> bool {
        let before = self.wish();
        let around = |at: usize, by: usize, of: usize| (at + by) % of.max(1);
        match key {
            KeyCode::Char('q') | KeyCode::Esc => self.done = true,
            KeyCode::Down | KeyCode::Char('j') => {
                self.selected = around(self.selected, 1, self.nodes.len());
            }
            KeyCode::Up | KeyCode::Char('k') => {
                let last = self.nodes.len().saturating_sub(1);
                self.selected = around(self.selected, last, self.nodes.len());
            }
            KeyCode::Right | KeyCode::Tab => self.chart = around(self.chart, 1, CHARTS.len()),
            KeyCode::Left | KeyCode::BackTab => {
                self.chart = around(self.chart, CHARTS.len() - 1, CHARTS.len());
            }
            KeyCode::Char('t') => self.timeframe = around(self.timeframe, 1, TIMEFRAMES.len()),
            KeyCode::Char('r') => return true,
            _ => {}
        }
        self.wish() != before
    }

    pub(crate) fn hear(&mut self, news: Result<News, Error>) {
        let news = match news {
            Ok(news) => news,
            Err(error) => {
                self.trouble = Some(error.to_string());
                return;
            }
        };
        self.trouble = None;
        let selected = self.node().map(str::to_owned);
        self.nodes = news.inventory.capacity();
        // Keeps the selected node, wherever it is in the new list.
        let place = self
            .nodes
            .keys()
            .position(|name| Some(name) == selected.as_ref());
        self.selected = place.unwrap_or(0);
        let guests = news.inventory.select().of_type(ResourceType::Vm);
        let guests = guests.sort(SortBy::Cpu, Order::Descending).list();
        self.guests = guests
            .into_iter()
            .map(|guest| {
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                let id = guest.id.clone();
                let state = format!("{} on {}", text(&guest.status), text(&guest.node));
                (id, guest.name().to_owned(), state, guest.cpu, guest.memory)
            })
            .collect();
        self.series = news.series;
    }

    pub(crate) fn draw(&self, frame: &mut Frame<'_>) {
        let [top, middle, bottom, keys] = Layout::vertical([
            Constraint::Length(self.nodes.len() as u16 + 3),
            Constraint::Min(8),
            Constraint::Length(8),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.draw_nodes(frame, top);
        self.draw_chart(frame, middle);
        self.draw_guests(frame, bottom);
        let line = match &self.trouble {
            Some(trouble) => Line::styled(trouble.clone(), Color::Red),
            None => Line::from("↑↓ node  ←→ figures  t time  r again  q quit"),
        };
        frame.render_widget(Paragraph::new(line), keys);
    }

    fn draw_nodes(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.nodes.iter().enumerate().map(|(index, (name, node))| {
            let share = |used: f64, of: f64| match of > 0.0 {
                true => format!("{:>3.0} %", 100.0 * used / of),
                false => "-".to_owned(),
            };
            let state = if node.online { "online" } else { "away" };
            let style = match (index == self.selected, node.online) {
                (true, _) => Style::new().add_modifier(Modifier::REVERSED),
                (false, true) => Style::new(),
                (false, false) => Style::new().fg(Color::Red),
            };
            Row::new([
                name.clone(),
                state.to_owned(),
                share(node.cpu_used, node.cpus),
                share(node.memory_used as f64, node.memory as f64),
                format!("{} of {}", node.running, node.guests),
            ])
            .style(style)
        });
        let widths = [
            Constraint::Min(12),
            Constraint::Length(8),
            Constraint::Length(10),
            Constraint::Length(10),
            Constraint::Length(12),
        ];
        let head = Row::new(["node", "state", "processor", "memory", "running"]);
        let head = head.style(Style::new().add_modifier(Modifier::BOLD));
        let table = Table::new(rows, widths).header(head);
        frame.render_widget(table.block(Block::bordered().title("nodes")), area);
    }

    fn draw_chart(&self, frame: &mut Frame<'_>, area: Rect) {
        let (title, names) = CHARTS[self.chart];
        let visible: Vec<&Series> = names
            .iter()
            .filter_map(|name| self.series.get(name))
            .collect();
        let lines: Vec<Vec<(f64, f64)>> = visible.iter().map(|series| points(series)).collect();
        let colors = [Color::Cyan, Color::Yellow];
        let sets = visible.iter().zip(&lines).zip(colors);
        let sets = sets.map(|((series, line), color)| {
            Dataset::default()
                .name(series.name.clone())
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(color)
                .data(line)
        });
        let all = || lines.iter().flatten();
        let (from, to) = all().fold((f64::MAX, f64::MIN), |(from, to), (time, _)| {
            (from.min(*time), to.max(*time))
        });
        let top = all().fold(0.0_f64, |top, (_, value)| top.max(*value));
        let top = if top > 0.0 { top * 1.1 } else { 1.0 };
        let unit = visible.first().map_or(Unit::Unknown, |series| series.unit);
        let (from, to) = if from < to { (from, to) } else { (0.0, 1.0) };
        let time = Axis::default().bounds([from, to]).labels([
            match TIMEFRAMES[self.timeframe] {
                Timeframe::Hour => "an hour ago".to_owned(),
                other => format!("a {} ago", other.as_str()),
            },
            "now".to_owned(),
        ]);
        let figures = [0.0, top / 2.0, top].map(|value| written(value, unit));
        let figures = Axis::default().bounds([0.0, top]).labels(figures);
        let title = format!("{} of {}", title, self.node().unwrap_or("no node"));
        let chart = Chart::new(sets.collect()).x_axis(time).y_axis(figures);
        frame.render_widget(chart.block(Block::bordered().title(title)), area);
    }

    fn draw_guests(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.guests.iter().map(|(id, name, state, cpu, memory)| {
            Row::new([
                id.clone(),
                name.clone(),
                state.clone(),
                format!("{:.1} %", cpu * 100.0),
                written(*memory as f64, Unit::Bytes),
            ])
        });
        let widths = [
            Constraint::Length(12),
            Constraint::Min(12),
            Constraint::Length(18),
            Constraint::Length(9),
            Constraint::Length(10),
        ];
        let title = format!("{} guests, the busiest first", self.guests.len());
        let table = Table::new(rows, widths).block(Block::bordered().title(title));
        frame.render_widget(table, area);
    }
}

/// The points of a line, without those that were not measured.
fn points(series: &Series) -> Vec<(f64, f64)> {
    let points = series.points.iter();
    points
        .filter_map(|(time, value)| Some((*time as f64, (*value)?)))
        .collect()
}

fn written(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Share => format!("{:.0} %", value * 100.0),
        Unit::Percent => format!("{value:.0} %"),
        Unit::Bytes | Unit::BytesPerSecond => {
            let mut value = value;
            let mut size = 0;
            while value >= 1024.0 && size < 5 {
                value /= 1024.0;
                size += 1;
            }
            let size = ["", "Ki", "Mi", "Gi", "Ti", "Pi"][size];
            format!("{value:.1} {size}{unit}")
        }
        _ => format!("{value:.1}"),
    }
}
