//! `demo`: a sample service, a sample issuer and the gateway in one process, with its data in a temporary folder that goes
//! when the process does. The gateway is started from a configuration file like any other; it lies in that folder.

mod folder;
mod issuer;
mod service;
mod tour;

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};

use axum::Router;
use clap::Args;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::folder::Folder;
use self::issuer::Issuer;
use self::tour::Walk;
use super::{Failure, hash_token, output, serve};
use crate::app::App;
use crate::clock::SystemClock;
use crate::config;
use crate::telemetry::Subscriber;

/// Run everything in one process, with a sample service and a sample issuer, and show what to try.
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// The gateway's port [default: 8080, or a free one]
    #[arg(long)]
    port: Option<u16>,
    /// The admin side's port [default: 9090, or a free one]
    #[arg(long)]
    admin_port: Option<u16>,
    /// Take the tour, print the status of each step, and end
    #[arg(long)]
    check: bool,
}

/// Where everything is.
struct Places {
    proxy: SocketAddr,
    admin: SocketAddr,
    issuer: SocketAddr,
    service: SocketAddr,
    credential: String,
}

impl Demo {
    /// Starts everything and shows the tour, or takes it.
    pub(super) async fn run(self, json: bool) -> Result<(), Failure> {
        let clock = SystemClock::shared();
        let folder = Folder::new()?;
        let mut servers = JoinSet::new();
        let issuer = listen(8081).await?;
        let service = listen(8082).await?;
        let mut places = Places {
            proxy: choose(self.port, 8080)?,
            admin: choose(self.admin_port, 9090)?,
            issuer: issuer.local_addr()?,
            service: service.local_addr()?,
            credential: hash_token::new_token()?,
        };
        serve_on(&mut servers, issuer, Issuer::new(places.issuer_name(), clock.clone())?.router());
        serve_on(&mut servers, service, service::router());
        let app = start(&folder, &mut places, self.check).await?;
        let outcome = if self.check {
            Walk::new(&places, clock, json).run().await
        } else {
            show(&places, &folder, json)?;
            Ok(serve::stop_signal().await?)
        };
        app.shutdown().await;
        servers.shutdown().await;
        outcome
    }
}

async fn start(folder: &Folder, places: &mut Places, quiet: bool) -> Result<App, Failure> {
    let file = folder.write("portcullis.toml", &places.configuration(folder, quiet))?;
    let settings = config::load(&file).map_err(|faults| Failure::Failed(faults.to_string()))?;
    // A second subscriber in one process is refused; then the first one's lines do.
    let subscriber = Subscriber::install(&settings.log).ok();
    let app = App::start(settings, subscriber).await.map_err(|error| Failure::Failed(error.to_string()))?;
    places.proxy = app.proxy_addr();
    places.admin = app.admin_addr();
    Ok(app)
}

/// A listener on that port of loopback, or on a free one when it is taken.
async fn listen(port: u16) -> Result<TcpListener, Failure> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?),
    }
}

/// The port asked for, or the usual one if it is free, or any: port 0 leaves the choice to the system.
fn choose(asked: Option<u16>, usual: u16) -> Result<SocketAddr, Failure> {
    let free = |port: u16| StdListener::bind((Ipv4Addr::LOCALHOST, port));
    let port = match asked {
        Some(port) => {
            free(port).map_err(|error| Failure::Failed(format!("port {port} cannot be used: {error}")))?;
            port
        }
        None if free(usual).is_ok() => usual,
        None => 0,
    };
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

fn serve_on(servers: &mut JoinSet<()>, listener: TcpListener, router: Router) {
    servers.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "a part of the demo ended");
        }
    });
}

impl Places {
    fn issuer_name(&self) -> String {
        format!("http://{}", self.issuer)
    }

    fn configuration(&self, folder: &Folder, quiet: bool) -> String {
        format!(
            "[proxy]\nlisten = \"{proxy}\"\n\n[admin]\nlisten = \"{admin}\"\n\n\
             [[admin.credentials]]\nname = \"demo\"\ntoken_sha256 = \"{sha256}\"\nrights = [\"admin\"]\n\n\
             [store]\nurl = {store}\n\n[log]\nlevel = \"{level}\"\n\n\
             [[issuers]]\nname = \"demo\"\nissuer = \"{issuer}\"\njwks_url = \"{issuer}/jwks\"\naudiences = [\"demo\"]\n\
             algorithms = [\"ES256\"]\ntoken_type = \"at+jwt\"\nmax_token_lifetime = \"2h\"\n\n\
             [[routes]]\npath = \"/\"\nupstreams = [\"http://{service}\"]\n",
            proxy = self.proxy,
            admin = self.admin,
            sha256 = hash_token::sha256(&self.credential),
            store = toml::Value::String(format!("sqlite:{}", folder.path().join("portcullis.db").display())),
            level = if quiet { "error" } else { "warn" },
            issuer = self.issuer_name(),
            service = self.service,
        )
    }
}

fn show(places: &Places, folder: &Folder, json: bool) -> Result<(), Failure> {
    let script = tour::script(places);
    if json {
        return output::json(&serde_json::json!({
            "proxy": places.proxy.to_string(), "admin": places.admin.to_string(), "issuer": places.issuer.to_string(),
            "credential": places.credential, "folder": folder.path().display().to_string(), "script": script,
        }));
    }
    output::line(&format!(
        "The gateway listens on http://{}, its admin side on http://{}, the sample issuer on http://{}.\n\
         Its configuration and its store lie in {}.\n\
         Paste these lines, one by one, into another shell:\n\n{script}\n\
         http://{}/clock is a stream that never ends; Ctrl-C ends the demo and removes the folder.",
        places.proxy,
        places.admin,
        places.issuer,
        folder.path().display(),
        places.proxy,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_tour_goes_as_promised() {
        Demo { port: None, admin_port: None, check: true }.run(false).await.unwrap();
    }

    #[test]
    fn every_call_of_the_tour_can_be_pasted() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let places =
            Places { proxy: address, admin: address, issuer: address, service: address, credential: "c".into() };
        let script = tour::script(&places);
        let shell = std::process::Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
        assert!(shell.success(), "{script}");
        assert!(script.contains(r#"{"token":"'"$TOKEN"'"}"#), "{script}");
    }
}
