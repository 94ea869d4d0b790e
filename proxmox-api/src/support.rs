//! What generated files import.

#![allow(
    unused_imports,
    reason = "which of them are used depends on the chosen areas"
)]

pub(crate) use std::collections::BTreeMap;
pub(crate) use std::fmt;
pub(crate) use std::future::IntoFuture;

pub(crate) use bytes::Bytes;

pub(crate) use crate::Value;
pub(crate) use crate::client::Client;
pub(crate) use crate::client::call::Call;
pub(crate) use crate::client::path::PathNode;
pub(crate) use crate::client::request::Request;
pub(crate) use crate::error::Error;
pub(crate) use crate::request::{ApiRequest, request_impls};
pub(crate) use crate::task::Task;
pub(crate) use crate::value::BoxFuture;
pub(crate) use crate::value::IndexedMap;
pub(crate) use crate::value::List;
pub(crate) use crate::value::Pending;
pub(crate) use crate::value::Secret;
pub(crate) use crate::value::Timestamp;
pub(crate) use crate::value::api_value::{
    self, ApiValue, Extra, Generated, Object, ObjectSchema, Objects, object,
};
pub(crate) use crate::value::encode::{ParamValue, Problem, ToParam};
pub(crate) use crate::value::endpoint::{Endpoint, Method, Partial, Permission, Release, Renamed};
pub(crate) use crate::value::formats::{
    Cidr, DiskKey, DiskSize, EncodedText, IpAddress, MacAddr, NodeName, Realm, StorageId, UserId,
    VolumeId,
};
pub(crate) use crate::value::input::{
    FromInteger, IntoItems, IntoItemsSetting, IntoSetting, IntoValue, Several,
};
pub(crate) use crate::value::limits::Takes;
pub(crate) use crate::value::open_enum::{self, OpenEnum, UnknownValue, open_enum_impls};
pub(crate) use crate::value::property_string::{
    Between, PropertyStringRules, UnknownKeys, property_string_impls,
};
pub(crate) use crate::value::serialize::serde_impls;
pub(crate) use crate::value::settings::{self, Changes, Settings};
pub(crate) use crate::value::{compare, debug, decode, property_string, set};

/// Decode functions for answers.
pub(crate) mod reply {
    #[cfg(feature = "node-storage")]
    pub(crate) use crate::client::request::reply::bytes;
    #[allow(
        unused_imports,
        reason = "which of them are used depends on the chosen areas"
    )]
    pub(crate) use crate::client::request::reply::data;
    if_any_area! {
        pub(crate) use crate::client::request::reply::nothing;
    }
    #[allow(
        unused_imports,
        reason = "which of them are used depends on the chosen areas"
    )]
    pub(crate) use crate::task::read_task as task;
}
