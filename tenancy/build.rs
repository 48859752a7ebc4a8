//! Has the crate rebuilt when a migration is added: `sqlx::migrate!` itself only watches the files it saw last.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
