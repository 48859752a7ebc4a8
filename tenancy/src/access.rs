//! What a key opens, and the tenants and services it opens.

use millrace_schemas::{ServiceId, WorkspaceId};
use serde::Serialize;

/// What the bearer of a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The only workspace that the key opens; `None` opens all of them.
    pub workspace: Option<WorkspaceId>,
    pub ingest: bool,
    pub read: bool,
    pub admin: bool,
}

impl Access {
    pub fn may_read(&self, workspace: WorkspaceId) -> bool {
        self.read && self.opens(workspace)
    }

    pub fn may_ingest(&self, workspace: WorkspaceId) -> bool {
        self.ingest && self.opens(workspace)
    }

    /// May change what belongs to `workspace`, for example add services.
    pub fn may_administer(&self, workspace: WorkspaceId) -> bool {
        self.admin && self.opens(workspace)
    }

    /// May change the installation, for example add workspaces.
    pub fn is_admin(&self) -> bool {
        self.admin && self.workspace.is_none()
    }

    fn opens(&self, workspace: WorkspaceId) -> bool {
        self.workspace.is_none_or(|own| own == workspace)
    }
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workspace {
    pub id: WorkspaceId,
    pub name: String,
}

/// A service of a workspace; its name may be empty, as PostgreSQL's application names may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    pub id: ServiceId,
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const OWN: WorkspaceId = WorkspaceId(Uuid::from_u128(1));
    const OTHER: WorkspaceId = WorkspaceId(Uuid::from_u128(2));

    #[test]
    fn a_workspace_key_opens_its_own_workspace_only() {
        let access = Access { workspace: Some(OWN), ingest: true, read: false, admin: true };
        assert!(access.may_ingest(OWN) && !access.may_ingest(OTHER));
        assert!(!access.may_read(OWN));
        assert!(access.may_administer(OWN) && !access.may_administer(OTHER));
        assert!(!access.is_admin(), "admin of one workspace is not admin of the installation");
    }

    #[test]
    fn a_key_without_a_workspace_opens_all() {
        let access = Access { workspace: None, ingest: false, read: true, admin: true };
        assert!(access.may_read(OWN) && access.may_read(OTHER));
        assert!(!access.may_ingest(OWN));
        assert!(access.is_admin());
    }
}
