//! Everything that Millrace runs on and consists of is killed, paused, restarted, starved of disk and given errors, at random,
//! under load. After it settles, other people's programs decide whether every acknowledged record is in exactly one place.
//!
//! It runs for as many kills as `MILLRACE_TEST_CHAOS` says, on a Kafka and a PostgreSQL of its own (`deploy/dev`, as root).
//! It prints its seed; with `MILLRACE_TEST_SEED` it plans the same faults once more. What the processes said, what the
//! topics held and the plan are kept where it fails.

mod audited;
pub mod bucket;
mod check;
mod dump;
mod faults;
mod load;
mod plan;
mod random;
mod role;
mod server;
mod settle;
mod site;
mod storage;
mod tokens;

use crate::harness::{number, python, run, say, say_skipped};
use anyhow::{Context as _, Result, ensure};
use load::{Load, Places};
use plan::{Phase, Target, plan};
use site::{Servers, Site};
use std::{fs, path::Path, sync::Arc};
use storage::Storage;
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_counted_twice() -> Result<()> {
    let Some(kills) = number("MILLRACE_TEST_CHAOS") else {
        say_skipped("chaos", "set MILLRACE_TEST_CHAOS to a number of kills to run it");
        return Ok(());
    };
    let python = python("chaos").context("MILLRACE_TEST_PYTHON must name the judge")?;
    ensure!(server::installed(), "deploy/dev/kafka.sh install; deploy/dev/postgres.sh install");
    let seed = number("MILLRACE_TEST_SEED").unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    tell(&format!("MILLRACE_TEST_SEED={seed} MILLRACE_TEST_CHAOS={kills}"));
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
    let phases = plan(seed, usize::try_from(kills)?);
    let data = TempDir::new()?;
    let servers = Servers::start(data.path()).await?;
    let mut killed = 0;
    for (number, phase) in (1..).zip(&phases) {
        let folder = kept.join(format!("phase-{number}"));
        let scene = Scene { servers: &servers, data: data.path(), folder: &folder, python: &python };
        let played = play(&scene, phase).await;
        played.with_context(|| {
            format!(
                "seed {seed}, phase {number} of {}; its logs and files: {}\n{phase}",
                phases.len(),
                folder.display()
            )
        })?;
        killed += phase.kills();
        fs::remove_dir_all(&folder)?;
    }
    tell(&format!("{killed} kills in {} phases: nothing lost, nothing counted twice", phases.len()));
    Ok(())
}

/// That all is well means nothing unless the judge can say that it is not.
#[tokio::test(flavor = "multi_thread")]
async fn the_judge_finds_what_is_planted() -> Result<()> {
    let Some(python) = python("chaos_judge") else { return Ok(()) };
    let folder = TempDir::new()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/chaos/planted.py");
    let arguments = [script.as_path(), folder.path()].map(|path| path.display().to_string());
    let printed = run(python, &arguments).await?;
    ensure!(printed.contains("23 planted errors found"), "{printed}");
    Ok(())
}

struct Scene<'a> {
    servers: &'a Arc<Servers>,
    /// For what no person will look at.
    data: &'a Path,
    folder: &'a Path,
    python: &'a Path,
}

async fn play(scene: &Scene<'_>, phase: &Phase) -> Result<()> {
    fs::create_dir_all(scene.folder)?;
    fs::write(scene.folder.join("plan.txt"), phase.to_string())?;
    tell(&format!("\n{phase}"));
    let storage = Storage::make(phase.archive, scene.data, scene.python).await?;
    let site = Site::start(scene.servers, storage, phase, scene.folder).await?;
    let result = play_on(&site, scene, phase).await;
    if result.is_err()
        && let Err(error) = site.keep_evidence().await
    {
        // Not what the phase failed of.
        tell(&format!("not all evidence is kept: {error:#}"));
    }
    result
}

async fn play_on(site: &Site, scene: &Scene<'_>, phase: &Phase) -> Result<()> {
    let cast = site.cast().await?;
    let places = Places {
        edge: site.api(Target::Edge),
        query: site.api(Target::Query),
        brokers: site.installation.log.brokers.clone(),
        topic: site.installation.topics.metrics.clone(),
    };
    let load = Load::start(phase.seed, &cast, &places)?;
    faults::perform(site, phase, &cast).await?;
    tell("the faults are over");
    site.ready().await?;
    let journal = load.end().await?;
    tell(&format!("{}; {}", journal.summary(), site.storage.told()));
    let judged = check::judge(site, &cast, &journal, &check::Judge { python: scene.python, phase }).await?;
    tell(judged.trim_end());
    tell(&audited::must_agree(site, phase).await?);
    tell(&tokens::must_be_contained(site, &journal).await?);
    let ended = site.ended();
    ensure!(ended.is_empty(), "roles have given up: {ended:#?}");
    let panicked = site.panicked()?;
    ensure!(panicked.is_empty(), "panics are in the logs of {}", panicked.join(", "));
    Ok(())
}

/// Past the test runner, so that a long run can be followed.
fn tell(what: &str) {
    say(&format!("chaos: {what}"));
}
