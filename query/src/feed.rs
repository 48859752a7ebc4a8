//! The live feed: who listens to which workspace, and the fan-out of each event to them. One thread for each topic
//! publishes; an event is decoded and serialized once, however many sockets it goes to.

mod event;
mod options;
mod queue;

pub use event::{Event, Kind};
pub use options::{Format, Options, Parameters};
pub use queue::{Batch, Limits, Queue};

use crate::meters::Meters;
use millrace_schemas::WorkspaceId;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// For each partition of a topic, the first offset that came after a listener did.
pub type Floors = Vec<i64>;

/// All listeners, by workspace.
pub struct Hub {
    limits: Limits,
    meters: Meters,
    listeners: RwLock<HashMap<WorkspaceId, Vec<Arc<Listener>>>>,
}

/// One socket's side of the hub.
struct Listener {
    options: Options,
    metric_floors: Floors,
    aggregate_floors: Floors,
    queue: Queue,
}

/// A listener for as long as this lives.
pub struct Subscription {
    hub: Arc<Hub>,
    workspace: WorkspaceId,
    listener: Arc<Listener>,
}

impl Hub {
    pub fn new(limits: Limits, meters: Meters) -> Self {
        Self { limits, meters, listeners: RwLock::default() }
    }

    /// From now on events of the workspace are queued, those below the floors excepted.
    pub fn subscribe(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        options: Options,
        floors: impl Fn(Kind) -> Floors,
    ) -> Subscription {
        let listener = Arc::new(Listener {
            options,
            metric_floors: floors(Kind::Metric),
            aggregate_floors: floors(Kind::Aggregate),
            queue: Queue::new(self.limits),
        });
        self.write().entry(workspace).or_default().push(Arc::clone(&listener));
        Subscription { hub: Arc::clone(self), workspace, listener }
    }

    /// Queues the event of `make` for those who want it; `make` isn't called where nobody listens, and may find that
    /// there is nothing to show.
    pub fn publish(&self, workspace: WorkspaceId, make: impl FnOnce() -> Option<Event>) {
        let listeners = self.read();
        let Some(listeners) = listeners.get(&workspace) else { return };
        let Some(event) = make().map(Arc::new) else { return };
        for listener in listeners.iter().filter(|listener| listener.wants(&event)) {
            self.meters.live_events.inc();
            self.meters.live_dropped.inc_by(listener.queue.push(Arc::clone(&event)));
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<WorkspaceId, Vec<Arc<Listener>>>> {
        self.listeners.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<WorkspaceId, Vec<Arc<Listener>>>> {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    fn wants(&self, event: &Event) -> bool {
        let floors = match event.kind {
            Kind::Metric => &self.metric_floors,
            Kind::Aggregate => &self.aggregate_floors,
        };
        let floor = usize::try_from(event.partition).ok().and_then(|partition| floors.get(partition));
        self.options.accepts(event) && floor.is_none_or(|floor| event.offset >= *floor)
    }
}

impl Subscription {
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    pub fn format(&self) -> Format {
        self.listener.options.format
    }

    pub fn queue(&self) -> &Queue {
        &self.listener.queue
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut listeners = self.hub.write();
        if let Some(of_workspace) = listeners.get_mut(&self.workspace) {
            of_workspace.retain(|listener| !Arc::ptr_eq(listener, &self.listener));
            if of_workspace.is_empty() {
                listeners.remove(&self.workspace);
            }
        }
    }
}

#[cfg(test)]
mod tests;
