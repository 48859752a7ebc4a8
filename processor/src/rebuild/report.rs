//! What a rebuild found, all together. Pure.

use super::{
    difference::{Cell, Column, Difference, Kind},
    span::Span,
};
use millrace_schemas::{Window, WorkspaceId};
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub range: Span,
    pub workspace_id: Option<WorkspaceId>,
    /// Records of the range that count, from the archive and from the log after it.
    pub records_archive: u64,
    pub records_log: u64,
    pub windows: [Comparison; 3],
    /// The largest relative difference of a number.
    pub largest: Option<Largest>,
}

/// Rows of one window size.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub window: Window,
    pub stored: u64,
    pub rebuilt: u64,
    pub only_stored: u64,
    pub only_rebuilt: u64,
    pub different: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Largest {
    pub relative: f64,
    pub column: &'static str,
    pub stored: Cell,
    pub rebuilt: Cell,
    #[serde(flatten)]
    pub row: RowName,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct RowName {
    pub window: Window,
    pub window_start: millrace_schemas::EventTime,
    pub workspace_id: WorkspaceId,
    pub service_id: millrace_schemas::ServiceId,
}

impl Report {
    pub(super) fn new(range: Span, workspace_id: Option<WorkspaceId>) -> Self {
        let none = |window| Comparison {
            window,
            stored: 0,
            rebuilt: 0,
            only_stored: 0,
            only_rebuilt: 0,
            different: 0,
        };
        let windows = Window::ALL.map(none);
        Self { range, workspace_id, records_archive: 0, records_log: 0, windows, largest: None }
    }

    /// Rows of a window size were compared.
    pub(super) fn compared(&mut self, window: Window, stored: usize, rebuilt: usize) {
        if let Some(comparison) = self.windows.iter_mut().find(|comparison| comparison.window == window) {
            comparison.stored += stored as u64;
            comparison.rebuilt += rebuilt as u64;
        }
    }

    pub(super) fn add(&mut self, difference: &Difference) {
        if let Some(comparison) = self.windows.iter_mut().find(|of| of.window == difference.window) {
            *match difference.kind {
                Kind::OnlyStored => &mut comparison.only_stored,
                Kind::OnlyRebuilt => &mut comparison.only_rebuilt,
                Kind::Different => &mut comparison.different,
            } += 1;
        }
        for column in &difference.columns {
            self.consider(column, difference);
        }
    }

    fn consider(&mut self, column: &Column, difference: &Difference) {
        let Some(relative) = column.relative else { return };
        if self.largest.as_ref().is_some_and(|largest| largest.relative >= relative) {
            return;
        }
        let row = RowName {
            window: difference.window,
            window_start: difference.window_start,
            workspace_id: difference.workspace_id,
            service_id: difference.service_id,
        };
        let Column { name, stored, rebuilt, .. } = *column;
        self.largest = Some(Largest { relative, column: name, stored, rebuilt, row });
    }

    /// Rows that are not stored as they are rebuilt.
    pub fn differences(&self) -> u64 {
        self.windows.iter().map(|of| of.only_stored + of.only_rebuilt + of.different).sum()
    }
}
