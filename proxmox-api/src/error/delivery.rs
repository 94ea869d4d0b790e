//! A webhook delivery that failed.

use std::fmt;

/// A webhook could not be delivered. See [`Error::Delivery`](crate::Error::Delivery).
#[derive(Clone, Debug)]
pub struct DeliveryError(Box<DeliveryParts>);

#[derive(Clone, Debug)]
struct DeliveryParts {
    hook: String,
    attempts: u32,
    why: String,
}

impl DeliveryError {
    pub(crate) fn new(hook: String, attempts: u32, why: String) -> Self {
        Self(Box::new(DeliveryParts {
            hook,
            attempts,
            why,
        }))
    }

    /// The webhook's name.
    #[must_use]
    pub fn webhook(&self) -> &str {
        &self.0.hook
    }

    /// The number of attempts.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "webhook {:?} was not delivered after {} attempts: {}",
            self.0.hook, self.0.attempts, self.0.why
        )
    }
}

impl std::error::Error for DeliveryError {}
