//! The whole way over a socket: every API in every offered version, and what the APIs promise.

mod administration;
mod client;
mod data;
mod every;
mod flows;
mod refusals;
