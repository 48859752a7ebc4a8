//! Creating workspaces and services: what is refused before the database is asked.

use super::*;
use serde_json::json;

const WORKSPACES: &str = "/api/v1/workspaces";

async fn status(path: &str, key: &str, body: &str) -> StatusCode {
    let subject = Subject::with_settings(Settings::default());
    subject.send(post(path, key, body.to_owned())).await.status
}

#[tokio::test]
async fn only_an_admin_key_may_create() {
    let services = format!("{WORKSPACES}/{OWN}/services");
    let body = json!({"name": "a"}).to_string();
    for path in [WORKSPACES, &services] {
        assert_eq!(status(path, "made up", &body).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(path, "writer", &body).await, StatusCode::FORBIDDEN);
        // Allowed, but here is no database.
        assert_eq!(status(path, "admin", &body).await, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn a_bad_name_or_id_is_refused() {
    assert_eq!(status(WORKSPACES, "admin", r#"{"name":""}"#).await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(status(WORKSPACES, "admin", r#"{"name":7}"#).await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(status(WORKSPACES, "admin", "{").await, StatusCode::BAD_REQUEST);
    let long = json!({"name": "a".repeat(256)}).to_string();
    assert_eq!(status(WORKSPACES, "admin", &long).await, StatusCode::UNPROCESSABLE_ENTITY);
    let no_id = format!("{WORKSPACES}/x/services");
    assert_eq!(status(&no_id, "admin", r#"{"name":"a"}"#).await, StatusCode::BAD_REQUEST);
}
