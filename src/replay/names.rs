//! The ids of workspaces and services by name: from an edge, from the database, or made from the names.

use crate::replay::edge::{Edge, EdgeError};
use millrace_schemas::{ServiceId, WorkspaceId};
use millrace_tenancy::Directory;
use std::collections::HashMap;
use uuid::{Uuid, uuid};

/// Made ids are UUIDv5 of `workspace` or `workspace/service` in this namespace.
const NAME_NAMESPACE: Uuid = uuid!("b0a4c1de-7c52-5f0b-8f0e-3d9a6e2f4c17");

#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    #[error("looking up the workspace `{name}`")]
    WorkspaceAtEdge { name: String, source: EdgeError },
    #[error("looking up the service `{name}`")]
    ServiceAtEdge { name: String, source: EdgeError },
    #[error("looking up the workspace `{name}`")]
    WorkspaceInDatabase { name: String, source: millrace_tenancy::Error },
    #[error("looking up the service `{name}`")]
    ServiceInDatabase { name: String, source: millrace_tenancy::Error },
}

/// Who knows the ids.
pub enum Source {
    Edge(Edge),
    Database(Directory),
    /// Nobody: they are made from the names.
    Made,
}

/// Names that are remembered: a log whose applications put a number in their name must not fill the memory.
const NAMES_MAX: usize = 100_000;

/// Ids by name; each is asked for once, or again after very many others.
pub struct Names {
    source: Source,
    workspaces: HashMap<String, Known>,
    remembered: usize,
}

struct Known {
    id: WorkspaceId,
    services: HashMap<String, ServiceId>,
}

impl Names {
    pub fn new(source: Source) -> Self {
        Self { source, workspaces: HashMap::new(), remembered: 0 }
    }

    /// The ids of a workspace and one of its services, created where nobody had that name.
    pub async fn ids(
        &mut self,
        workspace: &str,
        service: &str,
    ) -> Result<(WorkspaceId, ServiceId), NamesError> {
        if self.remembered >= NAMES_MAX {
            self.workspaces.clear();
            self.remembered = 0;
        }
        if !self.workspaces.contains_key(workspace) {
            let known = Known { id: self.source.workspace(workspace).await?, services: HashMap::new() };
            self.workspaces.insert(workspace.to_owned(), known);
            self.remembered += 1;
        }
        let known = self.workspaces.get_mut(workspace).expect("it was put there");
        let service_id = match known.services.get(service) {
            Some(id) => *id,
            None => {
                let id = self.source.service(known.id, workspace, service).await?;
                known.services.insert(service.to_owned(), id);
                self.remembered += 1;
                id
            }
        };
        Ok((known.id, service_id))
    }
}

impl Source {
    async fn workspace(&self, name: &str) -> Result<WorkspaceId, NamesError> {
        let named = || name.to_owned();
        match self {
            Self::Edge(edge) => {
                let id = edge.get_or_create("/api/v1/workspaces", name).await;
                id.map(WorkspaceId).map_err(|source| NamesError::WorkspaceAtEdge { name: named(), source })
            }
            Self::Database(directory) => {
                let workspace = directory.get_or_create_workspace(name).await;
                let found = workspace.map(|workspace| workspace.id);
                found.map_err(|source| NamesError::WorkspaceInDatabase { name: named(), source })
            }
            Self::Made => Ok(WorkspaceId(Uuid::new_v5(&NAME_NAMESPACE, name.as_bytes()))),
        }
    }

    async fn service(&self, id: WorkspaceId, workspace: &str, name: &str) -> Result<ServiceId, NamesError> {
        let full_name = || format!("{workspace}/{name}");
        match self {
            Self::Edge(edge) => {
                let id = edge.get_or_create(&format!("/api/v1/workspaces/{id}/services"), name).await;
                id.map(ServiceId).map_err(|source| NamesError::ServiceAtEdge { name: full_name(), source })
            }
            Self::Database(directory) => {
                let service = directory.get_or_create_service(id, name).await;
                let found = service.map(|service| service.id);
                found.map_err(|source| NamesError::ServiceInDatabase { name: full_name(), source })
            }
            Self::Made => Ok(ServiceId(Uuid::new_v5(&NAME_NAMESPACE, full_name().as_bytes()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn made_ids_depend_on_the_names_only() {
        let mut names = Names::new(Source::Made);
        let first = names.ids("shop", "pgbench").await.expect("made");
        assert_eq!(names.ids("shop", "pgbench").await.expect("made"), first);
        assert_eq!(Names::new(Source::Made).ids("shop", "pgbench").await.expect("made"), first);
        let other = names.ids("billing", "pgbench").await.expect("made");
        assert!(other.0 != first.0 && other.1 != first.1);
        let nameless = names.ids("shop", "").await.expect("made");
        assert!(nameless.0 == first.0 && nameless.1 != first.1);
    }
}
