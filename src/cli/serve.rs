//! `serve`: the gateway as it runs in production, and the signals it obeys.
//!
//! SIGTERM and SIGINT drain, a second one ends at once; SIGHUP reads the configuration anew.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use crate::app::App;
use crate::config::{self, Settings};
use crate::telemetry::{Format, Subscriber, in_one_line};

const SIGNALS: &str = "\
Signals:
  SIGTERM, SIGINT  stop: requests under way may finish within proxy.timeouts.drain; a second signal ends at once
  SIGHUP           read the configuration and the certificates anew; a file with faults changes nothing

When it serves, one line on standard error says so: portcullis is ready proxy=ADDRESS admin=ADDRESS";

/// Run the gateway.
#[derive(Args, Debug)]
#[command(after_help = SIGNALS)]
pub(super) struct Serve {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

impl Serve {
    /// Serves until told to stop.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let settings = load(&self.config)?;
        let mut signals = Signals::new()?;
        let subscriber = Subscriber::install(&settings.log).map_err(|error| Failure::Failed(error.to_string()))?;
        warn(&settings);
        let format = settings.log.format;
        let starting = App::start(settings, Some(subscriber));
        let app = tokio::select! {
            app = starting => app.map_err(|error| Failure::Failed(format!("cannot start: {}", in_one_line(&error))))?,
            () = signals.stop() => return Ok(()),
        };
        announce(&app, format);
        signals.obey(&app, &self.config).await;
        tracing::info!("stopping");
        tokio::select! {
            () = app.shutdown() => Ok(()),
            () = signals.stop() => Err(Failure::Failed("stopped at once, by a second signal".to_owned())),
        }
    }
}

fn load(file: &Path) -> Result<Settings, Failure> {
    config::load(file).map_err(|faults| {
        faults.lines().for_each(|line| eprintln!("{line}"));
        Failure::Configuration
    })
}

fn warn(settings: &Settings) {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
}

/// Says that we serve, whatever the level of the log: whoever starts us may wait for it.
fn announce(app: &App, format: Format) {
    let (proxy, admin) = (app.proxy_addr(), app.admin_addr());
    match format {
        Format::Human => eprintln!("portcullis is ready proxy={proxy} admin={admin}"),
        Format::Json => {
            let [proxy, admin] = [proxy.to_string(), admin.to_string()];
            eprintln!(
                "{}",
                json!({ "level": "INFO", "message": "portcullis is ready", "proxy": proxy, "admin": admin })
            );
        }
    }
}

/// The signals we obey. From the moment this exists they no longer end the process by themselves.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until told to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Reloads when told to, until told to stop.
    async fn obey(&mut self, app: &App, file: &Path) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => reload(app, file),
            }
        }
    }
}

fn reload(app: &App, file: &Path) {
    let settings = match config::load(file) {
        Ok(settings) => settings,
        Err(faults) => {
            app.reload_failed();
            faults.lines().for_each(|fault| tracing::error!(%fault, "the configuration has a fault"));
            tracing::error!(faults = faults.iter().count(), "the configuration was not reloaded; the old one stays");
            return;
        }
    };
    warn(&settings);
    match app.reload(settings) {
        Ok(restart) => {
            restart.iter().for_each(|key| tracing::warn!(key, "this change takes a restart"));
            tracing::info!("the configuration was reloaded");
        }
        Err(error) => {
            let error = in_one_line(&error);
            tracing::error!(%error, "the configuration was not reloaded; the old one stays");
        }
    }
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn stop_signal() -> io::Result<()> {
    Signals::new()?.stop().await;
    Ok(())
}
