//! Times in the API.

use std::fmt;
use std::num::TryFromIntError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::value::api_value::{ApiValue, Expected, Scalar, View};
use crate::value::encode::{ParamValue, ToParam};
use crate::value::input::FromInteger;
use crate::value::serialize::serde_impls;

/// A time, in whole seconds since the beginning of 1970 in UTC.
///
/// In some places 0 has a special meaning, such as "never"; their documentation says so.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use proxmox_api::value::Timestamp;
///
/// let moment = Timestamp::from_seconds(1_700_000_000);
/// let time = moment.to_system_time().expect("within the clock's range");
/// assert_eq!(Timestamp::from(time + Duration::from_secs(60)).seconds(), 1_700_000_060);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// This many seconds after the beginning of 1970.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// The seconds since the beginning of 1970.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0
    }

    /// The time as a `SystemTime`; `None` if it is beyond the range of the system's clock.
    #[must_use]
    pub fn to_system_time(self) -> Option<SystemTime> {
        let distance = Duration::from_secs(self.0.unsigned_abs());
        match self.0 {
            0.. => UNIX_EPOCH.checked_add(distance),
            _ => UNIX_EPOCH.checked_sub(distance),
        }
    }
}

/// Rounds down to whole seconds.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let seconds = |distance: Duration| i64::try_from(distance.as_secs()).unwrap_or(i64::MAX);
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => seconds(since),
            Err(before) => {
                let before = before.duration();
                -seconds(before) - i64::from(before.subsec_nanos() > 0)
            }
        })
    }
}

impl From<i64> for Timestamp {
    fn from(seconds: i64) -> Self {
        Self(seconds)
    }
}

impl From<Timestamp> for i64 {
    fn from(time: Timestamp) -> Self {
        time.0
    }
}

impl TryFrom<Timestamp> for u64 {
    type Error = TryFromIntError;

    fn try_from(time: Timestamp) -> Result<Self, Self::Error> {
        time.0.try_into()
    }
}

impl FromInteger for Timestamp {
    fn from_integer(value: i64) -> Self {
        Self(value)
    }
}

impl PartialEq<i64> for Timestamp {
    fn eq(&self, seconds: &i64) -> bool {
        self.0 == *seconds
    }
}

/// The seconds, as the API writes them.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ToParam for Timestamp {
    fn to_param(&self) -> ParamValue {
        self.0.to_param()
    }
}

impl ApiValue for Timestamp {
    fn empty() -> Self {
        Self::default()
    }

    fn set_scalar(&mut self, value: &Scalar<'_>) -> Result<(), Expected> {
        self.0.set_scalar(value)
    }

    fn view(&self) -> View<'_> {
        self.0.view()
    }
}

serde_impls!(Timestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_converts_to_a_system_time_and_back() {
        for seconds in [-1, 0, 1, 1_700_000_000, 253_402_300_799] {
            let time = Timestamp::from_seconds(seconds);
            let system = time.to_system_time().expect("within the clock's range");
            assert_eq!(Timestamp::from(system), time);
            let later = system + Duration::from_millis(999);
            assert_eq!(Timestamp::from(later), seconds, "the second it lies in");
        }
    }

    #[test]
    fn it_is_a_number_on_the_wire() {
        let time: Timestamp = serde_json::from_str("\"1700000000\"").expect("digits are a time");
        assert_eq!(serde_json::to_string(&time).expect("JSON"), "1700000000");
        assert_eq!(time.to_param(), ParamValue::One("1700000000".to_owned()));
        assert!(serde_json::from_str::<Timestamp>("\"tomorrow\"").is_err());
    }
}
