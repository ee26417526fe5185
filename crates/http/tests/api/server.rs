//! A server to ask, with an administrator, a tenant and a neighbour.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};
use stillpoint_client::{Client, Credential};
use stillpoint_control::board::Board;
use stillpoint_control::bootstrap::{AccountSetup, Installation, PoolSetup, TargetSetup};
use stillpoint_control::{Context, Secret, Settings, bootstrap, engine, token};
use stillpoint_env::SimEnv;
use stillpoint_http::HttpSettings;
use stillpoint_model::ByteCount;
use stillpoint_model::account::Actor;
use stillpoint_model::name::Name;
use stillpoint_model::plan::Plan;
use stillpoint_store::{Db, Durability, Options};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fake_node;

pub const PASSWORD: &str = "correct horse battery staple";
pub const MIB: u64 = 1 << 20;

/// What each account has lists of.
pub const LISTS: [&str; 8] = [
    "volumes",
    "instances",
    "instance-snapshots",
    "snapshots",
    "backups",
    "images",
    "operations",
    "tokens",
];

/// Somebody with an API token.
pub struct Who {
    pub actor: Actor,
    pub token: String,
}

/// A running server.
pub struct Server {
    pub url: String,
    pub env: Arc<SimEnv>,
    pub cx: Context,
    pub administrator: Who,
    pub tenant: Who,
    pub neighbour: Who,
    pub upload_dir: PathBuf,
    /// True while the node does nothing.
    pub holding: watch::Sender<bool>,
    http: reqwest::Client,
    _closing: watch::Sender<bool>,
    _tasks: JoinSet<()>,
    _dir: TempDir,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn id(&self) -> String {
        self.body["id"]
            .as_str()
            .unwrap_or_else(|| panic!("an id: {self:?}"))
            .to_owned()
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn account(account: &str, login: &str) -> AccountSetup {
    AccountSetup {
        account: name(account),
        login: login.to_owned(),
        password: Secret::new(PASSWORD),
    }
}

fn plan() -> Plan {
    toml::from_str(include_str!("../../../../presets/stillpoint.toml")).expect("the preset")
}

fn installation() -> Installation {
    Installation {
        region: name("here"),
        node: name("node-1"),
        pool: PoolSetup {
            name: name("pool-1"),
            driver: "memory".into(),
            live_capture: false,
        },
        target: Some(TargetSetup {
            name: name("shelf"),
            driver: "local".into(),
            object_lock: None,
        }),
        second_target: None,
        administrator: account("operators", "admin"),
        tenant: Some(account("tenant", "tenant")),
    }
}

/// A node that is never offline: the tests move the clock in leaps.
fn settings() -> Settings {
    let flavors = include_str!("../../../../presets/flavors.toml");
    Settings {
        node_timeout: Duration::from_hours(24 * 365),
        flavors: toml::from_str(flavors).expect("the flavors"),
        ..Settings::new(plan())
    }
}

impl Server {
    /// Starts a server with three accounts and nothing in them.
    pub async fn start() -> Self {
        Self::start_with(|_, _| ()).await
    }

    /// Starts a server that is set up differently.
    pub async fn start_with(adjust: impl FnOnce(&mut Installation, &mut HttpSettings)) -> Self {
        Self::start_on(true, adjust).await
    }

    /// Starts a server whose node runs no instances.
    pub async fn start_without_instances() -> Self {
        Self::start_on(false, |_, _| ()).await
    }

    async fn start_on(
        runs_instances: bool,
        adjust: impl FnOnce(&mut Installation, &mut HttpSettings),
    ) -> Self {
        let dir = TempDir::new().expect("a folder");
        let env = Arc::new(SimEnv::new(7));
        let mut options = Options::new(dir.path().join("db"));
        options.durability = Durability::None;
        let db = Db::open(&options).await.expect("a database");
        let cx = Context::open(db, Arc::<SimEnv>::clone(&env), settings())
            .await
            .expect("a control plane");
        let mut installation = installation();
        let (closing, closed) = watch::channel(false);
        let (holding, held) = watch::channel(false);
        let upload_dir = dir.path().join("uploads");
        std::fs::create_dir(&upload_dir).expect("a folder");
        let mut settings = HttpSettings::new(
            Arc::<SimEnv>::clone(&env),
            upload_dir.clone(),
            closed.clone(),
        );
        settings.max_upload = ByteCount::from_mib(2);
        adjust(&mut installation, &mut settings);
        let installed = bootstrap::ensure_installation(&cx, &installation)
            .await
            .expect("rows");
        installation.tenant = Some(account("neighbour", "neighbour"));
        let again = bootstrap::ensure_installation(&cx, &installation)
            .await
            .expect("rows");
        let tenant = installed.tenant.expect("a tenant").actor;
        let neighbour = again.tenant.expect("a neighbour").actor;

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = stillpoint_http::router(cx.clone(), settings);
        let mut tasks = JoinSet::new();
        tasks.spawn(stillpoint_http::serve(listener, router, closed));
        tasks.spawn(engine::run(cx.clone(), std::future::pending()));
        let board = Board::new(cx.clone());
        if runs_instances {
            // What a node says that can run machines and has none.
            let heard = board.sighted(installed.node_id, Vec::new()).await;
            heard.expect("heard");
        }
        let node = fake_node::run(board, installed.node_id, Arc::<SimEnv>::clone(&env), held);
        tasks.spawn(node);
        Self {
            url,
            administrator: who(&cx, installed.administrator.actor).await,
            tenant: who(&cx, tenant).await,
            neighbour: who(&cx, neighbour).await,
            env,
            cx,
            upload_dir,
            holding,
            http: reqwest::Client::new(),
            _closing: closing,
            _tasks: tasks,
            _dir: dir,
        }
    }

    /// A typed client.
    pub fn client(&self, who: &Who) -> Client {
        Client::new(&self.url, &Credential::Token(who.token.clone())).expect("a client")
    }

    /// A request to fill in.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Reply {
            status,
            headers,
            body,
        }
    }

    pub async fn get(&self, who: &Who, path: &str) -> Reply {
        self.send(self.request(Method::GET, path).bearer_auth(&who.token))
            .await
    }

    pub async fn post(&self, who: &Who, path: &str, body: &Value) -> Reply {
        self.send(
            self.request(Method::POST, path)
                .bearer_auth(&who.token)
                .json(body),
        )
        .await
    }

    pub async fn patch(&self, who: &Who, path: &str, body: &Value) -> Reply {
        self.send(
            self.request(Method::PATCH, path)
                .bearer_auth(&who.token)
                .json(body),
        )
        .await
    }

    pub async fn delete(&self, who: &Who, path: &str) -> Reply {
        self.send(self.request(Method::DELETE, path).bearer_auth(&who.token))
            .await
    }

    /// Sends raw bytes as a JSON body.
    pub fn raw(&self, who: &Who, path: &str, body: impl Into<Body>) -> RequestBuilder {
        self.request(Method::POST, path)
            .bearer_auth(&who.token)
            .header(CONTENT_TYPE, "application/json")
            .body(body)
    }

    /// Waits until an accepted operation is over, and asserts that it succeeded.
    pub async fn done(&self, who: &Who, accepted: &Reply) -> Value {
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let id = accepted.id().parse().expect("an operation's id");
        let operation = self.client(who).wait(id, |_| ()).await.expect("an end");
        let operation = serde_json::to_value(operation).expect("JSON");
        assert_eq!(operation["state"], "succeeded", "{operation}");
        operation
    }

    /// Makes a volume of 64 MiB, and waits for it.
    pub async fn volume(&self, who: &Who, name: &str) -> String {
        let body = json!({"name": name, "size_bytes": 64 * MIB});
        let accepted = self.post(who, "/v1/volumes", &body).await;
        let operation = self.done(who, &accepted).await;
        operation["volume_id"]
            .as_str()
            .expect("a volume")
            .to_owned()
    }

    /// Takes a snapshot, waits for it, and lets the volume rest.
    pub async fn snapshot(&self, who: &Who, volume: &str, name: &str) -> String {
        let body = json!({"volume": volume, "name": name});
        let accepted = self.post(who, "/v1/snapshots", &body).await;
        let operation = self.done(who, &accepted).await;
        self.rest();
        operation["snapshot_id"]
            .as_str()
            .expect("a snapshot")
            .to_owned()
    }

    /// Takes a snapshot of an instance, waits for it, and lets its volumes rest.
    pub async fn instance_snapshot(&self, who: &Who, instance: &str, name: &str) -> String {
        let body = json!({"instance": instance, "name": name});
        let accepted = self.post(who, "/v1/instance-snapshots", &body).await;
        let operation = self.done(who, &accepted).await;
        self.rest();
        operation["instance_snapshot_id"]
            .as_str()
            .expect("an instance snapshot")
            .to_owned()
    }

    /// Makes a backup, waits for it, and lets the volume rest.
    pub async fn backup(&self, who: &Who, volume: &str, name: &str) -> String {
        let body = json!({"volume": volume, "name": name});
        let accepted = self.post(who, "/v1/backups", &body).await;
        let operation = self.done(who, &accepted).await;
        self.rest();
        operation["backup_id"]
            .as_str()
            .expect("a backup")
            .to_owned()
    }

    /// Makes an image of a snapshot, and waits for it.
    pub async fn image(&self, who: &Who, snapshot: &str, name: &str) -> String {
        let source = json!({"kind": "snapshot", "item": snapshot});
        let body = json!({"name": name, "source": source});
        let accepted = self.post(who, "/v1/images", &body).await;
        let operation = self.done(who, &accepted).await;
        operation["image_id"].as_str().expect("an image").to_owned()
    }

    /// Makes an instance with an empty root of 64 MiB, and waits for it.
    pub async fn instance(&self, who: &Who, name: &str, start: bool) -> String {
        let root = json!({"size_bytes": 64 * MIB});
        let body = json!({"name": name, "root": root, "start": start});
        let accepted = self.post(who, "/v1/instances", &body).await;
        let operation = self.done(who, &accepted).await;
        operation["instance_id"]
            .as_str()
            .expect("an instance")
            .to_owned()
    }

    /// Lets the cooldown pass.
    pub fn rest(&self) {
        self.env.advance(Duration::from_secs(301));
    }

    /// Everything that any of the three can list, and the end of the audit: what a request that
    /// is refused must not change.
    pub async fn dump(&self) -> Value {
        let mut dump = Vec::new();
        for who in [&self.tenant, &self.neighbour] {
            for list in LISTS {
                let page = self.get(who, &format!("/v1/{list}?limit=500")).await;
                assert_eq!(page.status, 200, "{page:?}");
                dump.push(page.body);
            }
        }
        dump.push(
            self.get(&self.administrator, "/v1/admin/audit?limit=5")
                .await
                .body,
        );
        let mut files: Vec<_> = std::fs::read_dir(&self.upload_dir)
            .expect("the folder")
            .map(|entry| {
                entry
                    .expect("a file")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        files.sort();
        dump.push(json!(files));
        Value::Array(dump)
    }
}

async fn who(cx: &Context, actor: Actor) -> Who {
    let (_, secret) = token::create(cx, &actor, name("tests"), None, None)
        .await
        .expect("a token");
    Who {
        actor,
        token: secret.expose().to_owned(),
    }
}

/// What the tenant has, and what the neighbour has.
pub struct Things {
    pub volume: String,
    pub instance: String,
    pub instance_snapshot: String,
    pub snapshot: String,
    pub backup: String,
    pub image: String,
    pub operation: String,
}

/// A volume `disk` with a snapshot `snap` and a backup `bak`; an image `golden` of the snapshot; and
/// an instance `vm` that is stopped, with its root `vm-root` and a snapshot `whole`.
pub async fn things(server: &Server, who: &Who) -> Things {
    let instance = server.instance(who, "vm", false).await;
    let instance_snapshot = server.instance_snapshot(who, "vm", "whole").await;
    let volume = server.volume(who, "disk").await;
    let snapshot = server.snapshot(who, "disk", "snap").await;
    let backup = server.backup(who, "disk", "bak").await;
    let image = server.image(who, "snap", "golden").await;
    let operations = server.get(who, "/v1/operations").await;
    let operation = operations.body["items"][0]["id"]
        .as_str()
        .expect("an operation")
        .to_owned();
    Things {
        volume,
        instance,
        instance_snapshot,
        snapshot,
        backup,
        image,
        operation,
    }
}
