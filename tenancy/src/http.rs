//! What every HTTP service of Millrace shares: the key that a request brings, and how an error is answered.

mod api_error;
mod api_key;

pub use api_error::ApiError;
pub use api_key::{ApiKey, SocketApiKey, readable};
