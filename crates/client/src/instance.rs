//! Instances, and the flavors they are made of.

use reqwest::Method;
use stillpoint_wire::Page;
use stillpoint_wire::instance::{
    Flavor, Instance, InstanceConsole, InstanceCreate, InstancePatch, InstanceStop,
};

use crate::error::Result;
use crate::request::{Answer, Change, Client, ListQuery};

/// Which volumes go with an instance that is deleted. The others are detached and stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeleteVolumes {
    /// None.
    #[default]
    Keep,
    /// All of them.
    All,
    /// These, by id or name.
    These(Vec<String>),
}

impl Client {
    /// The project's instances, newest first.
    pub async fn instance_list(&self, query: &ListQuery) -> Result<Page<Instance>> {
        self.list(&["instances"], &(), query).await
    }

    /// One instance, by id or name.
    pub async fn instance_show(&self, instance: &str) -> Result<Instance> {
        self.get(&["instances", instance]).await
    }

    /// The end of what its guest wrote to its serial console.
    pub async fn instance_console(&self, instance: &str) -> Result<InstanceConsole> {
        self.get(&["instances", instance, "console"]).await
    }

    /// A new instance.
    pub async fn instance_create(
        &self,
        request: &InstanceCreate,
        change: &Change,
    ) -> Result<Answer> {
        self.submit(Method::POST, &["instances"], &[], Some(request), change)
            .await
    }

    /// Renames an instance.
    pub async fn instance_update(
        &self,
        instance: &str,
        patch: &InstancePatch,
        change: &Change,
    ) -> Result<Instance> {
        self.change(Method::PATCH, &["instances", instance], Some(patch), change)
            .await
    }

    /// Starts an instance.
    pub async fn instance_start(&self, instance: &str, change: &Change) -> Result<Answer> {
        self.power(instance, "start", None, change).await
    }

    /// Stops an instance.
    pub async fn instance_stop(
        &self,
        instance: &str,
        request: &InstanceStop,
        change: &Change,
    ) -> Result<Answer> {
        self.power(instance, "stop", Some(request), change).await
    }

    /// Has an instance stand still, with its memory kept.
    pub async fn instance_pause(&self, instance: &str, change: &Change) -> Result<Answer> {
        self.power(instance, "pause", None, change).await
    }

    /// Has a paused instance go on.
    pub async fn instance_resume(&self, instance: &str, change: &Change) -> Result<Answer> {
        self.power(instance, "resume", None, change).await
    }

    async fn power(
        &self,
        instance: &str,
        verb: &str,
        request: Option<&InstanceStop>,
        change: &Change,
    ) -> Result<Answer> {
        let path = ["instances", instance, verb];
        self.submit(Method::POST, &path, &[], request, change).await
    }

    /// Deletes an instance, and those of its volumes that are named; `confirm` is its name, typed,
    /// where the plan asks for that.
    pub async fn instance_delete(
        &self,
        instance: &str,
        volumes: &DeleteVolumes,
        confirm: Option<&str>,
        change: &Change,
    ) -> Result<Answer> {
        let mut query: Vec<_> = confirm.map(|name| ("confirm", name)).into_iter().collect();
        match volumes {
            DeleteVolumes::Keep => {}
            DeleteVolumes::All => query.push(("delete_all_volumes", "true")),
            DeleteVolumes::These(named) => {
                query.extend(
                    named
                        .iter()
                        .map(|volume| ("delete_volumes", volume.as_str())),
                );
            }
        }
        let path = ["instances", instance];
        self.submit(Method::DELETE, &path, &query, None::<&()>, change)
            .await
    }

    /// What an instance can be made of; the first is taken when none is named.
    pub async fn flavor_list(&self) -> Result<Page<Flavor>> {
        self.get(&["flavors"]).await
    }
}
