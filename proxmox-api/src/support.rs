//! What generated files import.

#![allow(
    unused_imports,
    reason = "which of them are used depends on the chosen areas"
)]

pub(crate) use std::collections::BTreeMap;

pub(crate) use bytes::Bytes;

pub(crate) use crate::Value;
pub(crate) use crate::client::Client;
pub(crate) use crate::decode::{Extra, Need, Object, Slot, family, indexed, strike};
pub(crate) use crate::endpoint::{Endpoint, Method, Partial, Permission, Release};
pub(crate) use crate::formats::{
    Cidr, DiskSize, IpAddress, MacAddr, NodeName, Realm, StorageId, UserId, VolumeId,
};
pub(crate) use crate::list::List;
pub(crate) use crate::open_enum::{Unlisted, open_enum_impls};
pub(crate) use crate::property_string::{
    Properties, Rules, Undeclared, Writer, property_string_impls,
};
pub(crate) use crate::request::{
    ApiRequest, At, Request, place_impls, reply, request_impls, response_impls,
};
pub(crate) use crate::secret::Secret;
pub(crate) use crate::task::Task;
