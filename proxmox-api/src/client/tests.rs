//! The client against scripted transports.
