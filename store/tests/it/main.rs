//! The store with real clients: sqlx, and one that speaks the protocol byte by byte.

#[cfg(test)]
mod basics;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod folders;
#[cfg(test)]
mod leaving;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod support;
#[cfg(test)]
mod upkeep;
