//! The people of a server: its administrator and its demo tenant, through the API and the CLI.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use stillpoint_client::{Answer, Change, Client, Credential, Error, Result};
use stillpoint_model::id::{InstanceId, VolumeId};
use stillpoint_wire::Problem;
use stillpoint_wire::backup::{Backup, BackupCreate};
use stillpoint_wire::item::ItemKind;
use stillpoint_wire::operation::{Operation, OperationState};
use stillpoint_wire::restore::{RestoreCreate, RestoreMode, RestoreSource};
use stillpoint_wire::snapshot::{Snapshot, SnapshotCreate};
use stillpoint_wire::token::TokenCreate;
use stillpoint_wire::upload::{ImageFormat, UploadSource};

use stillpoint_wire::volume::VolumeCreate;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::server::{Server, stillpoint_binary};
use crate::wait::{PATIENCE, until};

/// A login and its password.
#[derive(Clone, Debug)]
pub struct Login {
    /// What is typed into the first field.
    pub login: String,
    /// What is typed into the second.
    pub password: String,
}

/// Someone with an API token of a server. Requests block until they are answered.
pub struct Person {
    runtime: Runtime,
    client: Client,
    url: String,
    token: String,
    /// Where the CLI keeps its files.
    home: TempDir,
}

impl Login {
    /// The demo tenant's.
    ///
    /// # Panics
    /// When the server has not written it down.
    #[track_caller]
    pub fn tenant(server: &Server) -> Self {
        Self::written_down(server, "tenant")
    }

    /// The administrator's.
    ///
    /// # Panics
    /// When the server has not written it down.
    #[track_caller]
    pub fn administrator(server: &Server) -> Self {
        Self::written_down(server, "administrator")
    }

    #[track_caller]
    fn written_down(server: &Server, who: &str) -> Self {
        let path = server.data().join("credentials");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let logins: toml::Table = toml::from_str(&text).expect("the credentials are TOML");
        let field = |name: &str| {
            let text = logins.get(who).and_then(|user| user.get(name)?.as_str());
            text.unwrap_or_else(|| panic!("no {who}.{name} in the credentials"))
                .to_owned()
        };
        Self {
            login: field("login"),
            password: field("password"),
        }
    }
}

impl Person {
    /// The demo tenant of a server.
    ///
    /// # Panics
    /// When signing in fails.
    #[track_caller]
    pub fn tenant(server: &Server) -> Self {
        Self::sign_in(server, &Login::tenant(server))
    }

    /// The administrator of a server.
    ///
    /// # Panics
    /// When signing in fails.
    #[track_caller]
    pub fn administrator(server: &Server) -> Self {
        Self::sign_in(server, &Login::administrator(server))
    }

    /// Signs in and takes a token, which survives a restart of the server.
    #[track_caller]
    fn sign_in(server: &Server, login: &Login) -> Self {
        // A thread of its own: connections that the server closes while a test is busy elsewhere
        // must be noticed.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let url = server.url().to_owned();
        let token = runtime.block_on(async {
            let anonymous = Client::new(&url, &Credential::None)?;
            let session = anonymous.sign_in(&login.login, &login.password).await?;
            let request = TokenCreate {
                name: "test".into(),
                expires_at: None,
            };
            anonymous
                .with_credential(&session.credential)?
                .token_create(&request)
                .await
        });
        let token = token
            .unwrap_or_else(|e| panic!("{} signs in: {e}", login.login))
            .secret;
        let client = Client::new(&url, &Credential::Token(token.clone())).expect("a client");
        let home = tempfile::tempdir().expect("a folder");
        Self {
            runtime,
            client,
            url,
            token,
            home,
        }
    }

    /// Goes on with the same token at the address that the server has now.
    pub fn follow(&mut self, server: &Server) {
        server.url().clone_into(&mut self.url);
        let credential = Credential::Token(self.token.clone());
        self.client = Client::new(&self.url, &credential).expect("a client");
    }

    /// What goes after `Authorization: Bearer`.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Asks, and gives whatever the answer is.
    ///
    /// # Errors
    /// As the client's.
    pub fn ask<T>(&self, request: impl AsyncFnOnce(&Client) -> Result<T>) -> Result<T> {
        self.runtime.block_on(request(&self.client))
    }

    /// Asks for something that must be answered.
    ///
    /// # Panics
    /// With the problem, when it is refused.
    #[track_caller]
    pub fn get<T>(&self, request: impl AsyncFnOnce(&Client) -> Result<T>) -> T {
        self.ask(request)
            .unwrap_or_else(|error| panic!("refused: {error:?}"))
    }

    /// Waits until the agent of an instance's guest has answered.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_until_ready(&self, id: InstanceId) {
        let name = id.to_string();
        until(PATIENCE * 3, "the guest's agent", || {
            let shown = self.get(async |client| client.instance_show(&name).await);
            match shown.ready && shown.load_percent.is_some() {
                true => Ok(()),
                false => Err(format!("{shown:?}")),
            }
        });
    }

    /// Asks for something that must be refused.
    ///
    /// # Panics
    /// When it is not, or when there is no answer.
    #[track_caller]
    pub fn refused<T>(&self, request: impl AsyncFnOnce(&Client) -> Result<T>) -> Problem {
        match self.ask(request) {
            Ok(_) => panic!("it was accepted"),
            Err(Error::Problem(problem)) => *problem,
            Err(error) => panic!("no refusal: {error:?}"),
        }
    }

    /// Asks for an operation, without waiting for it.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn begin(&self, request: impl AsyncFnOnce(&Client) -> Result<Answer>) -> Operation {
        match self.get(request) {
            Answer::Accepted(operation) => *operation,
            Answer::Preview(preview) => panic!("a preview: {preview:?}"),
        }
    }

    /// Waits for the end of an operation, however it ends.
    ///
    /// # Panics
    /// When it cannot be watched.
    #[track_caller]
    pub fn end_of(&self, operation: &Operation) -> Operation {
        let id = operation.id;
        self.get(async |client| client.wait(id, |_| {}).await)
    }

    /// Asks for an operation and waits until it has succeeded.
    ///
    /// # Panics
    /// When it is refused, fails or is cancelled.
    #[track_caller]
    pub fn complete(&self, request: impl AsyncFnOnce(&Client) -> Result<Answer>) -> Operation {
        let operation = self.begin(request);
        let ended = self.end_of(&operation);
        assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
        ended
    }

    /// Uploads a disk image and makes a volume of it, but does not wait for that.
    ///
    /// # Panics
    /// When a request is refused.
    #[track_caller]
    pub fn begin_import(&self, name: &str, image: &Path, format: ImageFormat) -> Operation {
        let upload = self.get(async |client| client.upload_file(image, |_, _| {}).await);
        let request = VolumeCreate {
            name: name.into(),
            upload: Some(UploadSource {
                id: upload.id,
                format,
            }),
            ..VolumeCreate::default()
        };
        self.begin(async |client| client.volume_create(&request, &Change::default()).await)
    }

    /// Uploads a disk image and makes a volume of it.
    ///
    /// # Panics
    /// When that does not succeed.
    #[track_caller]
    pub fn import(&self, name: &str, image: &Path, format: ImageFormat) -> VolumeId {
        let ended = self.end_of(&self.begin_import(name, image, format));
        assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
        ended.volume_id.expect("an import makes a volume")
    }

    /// Takes a snapshot.
    ///
    /// # Panics
    /// When that does not succeed.
    #[track_caller]
    pub fn snapshot(&self, volume: VolumeId, name: &str) -> Snapshot {
        let request = SnapshotCreate {
            volume: volume.to_string(),
            name: Some(name.into()),
            ..SnapshotCreate::default()
        };
        let ended = self
            .complete(async |client| client.snapshot_create(&request, &Change::default()).await);
        let id = ended.snapshot_id.expect("the snapshot's id").to_string();
        self.get(async |client| client.snapshot_show(&id).await)
    }

    /// Makes a backup.
    ///
    /// # Panics
    /// When that does not succeed.
    #[track_caller]
    pub fn backup(&self, volume: VolumeId, name: &str) -> Backup {
        let request = BackupCreate {
            volume: volume.to_string(),
            name: Some(name.into()),
            ..BackupCreate::default()
        };
        let ended =
            self.complete(async |client| client.backup_create(&request, &Change::default()).await);
        let id = ended.backup_id.expect("the backup's id").to_string();
        self.get(async |client| client.backup_show(&id).await)
    }

    /// Restores to a new volume.
    ///
    /// # Panics
    /// When that does not succeed.
    #[track_caller]
    pub fn restore_new(&self, kind: ItemKind, item: impl ToString, name: &str) -> VolumeId {
        let request = restore_new(kind, item, name);
        let ended =
            self.complete(async |client| client.restore_create(&request, &Change::default()).await);
        ended.volume_id.expect("the new volume's id")
    }

    /// Overwrites the volume named `volume`.
    ///
    /// # Panics
    /// When that does not succeed.
    #[track_caller]
    pub fn roll_back(&self, kind: ItemKind, item: impl ToString, volume: &str) {
        let request = roll_back(kind, item, volume);
        self.complete(async |client| client.restore_create(&request, &Change::default()).await);
    }

    /// Deletes a snapshot.
    ///
    /// # Panics
    /// When that does not succeed.
    #[track_caller]
    pub fn delete_snapshot(&self, snapshot: &Snapshot) {
        let (id, name) = (snapshot.id.to_string(), snapshot.name.as_str());
        self.complete(async |client| {
            client
                .snapshot_delete(&id, Some(name), &Change::default())
                .await
        });
    }

    /// Deletes a backup.
    ///
    /// # Panics
    /// When that does not succeed.
    #[track_caller]
    pub fn delete_backup(&self, backup: &Backup) {
        let (id, name) = (backup.id.to_string(), backup.name.as_str());
        self.complete(async |client| {
            client
                .backup_delete(&id, Some(name), &Change::default())
                .await
        });
    }

    /// Runs a command of the CLI as this person, without a terminal and without colours.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn cli<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        Command::new(stillpoint_binary())
            .args(arguments)
            .env("STILLPOINT_SERVER", &self.url)
            .env("STILLPOINT_TOKEN", &self.token)
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("start the CLI")
    }
}

/// The request that restores an item to a new volume.
#[expect(
    clippy::needless_pass_by_value,
    reason = "an id is copied as it is named"
)]
pub fn restore_new(kind: ItemKind, item: impl ToString, name: &str) -> RestoreCreate {
    RestoreCreate {
        source: RestoreSource {
            kind,
            item: item.to_string(),
        },
        mode: RestoreMode::NewVolume,
        name: Some(name.into()),
        pool: None,
        instant: None,
        confirm: None,
    }
}

/// The request that overwrites the volume named `volume`, confirmed.
#[expect(
    clippy::needless_pass_by_value,
    reason = "an id is copied as it is named"
)]
pub fn roll_back(kind: ItemKind, item: impl ToString, volume: &str) -> RestoreCreate {
    RestoreCreate {
        source: RestoreSource {
            kind,
            item: item.to_string(),
        },
        mode: RestoreMode::InPlace,
        name: None,
        pool: None,
        instant: None,
        confirm: Some(volume.into()),
    }
}
