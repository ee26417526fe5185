use std::sync::Arc;

use stillpoint_env::SimEnv;
use stillpoint_model::Env;
use stillpoint_model::id::RegionId;
use stillpoint_model::place::Region;

use super::*;
use crate::place::{region_insert, region_list};

struct Lab {
    env: Arc<SimEnv>,
    db: Db,
    options: Options,
    _dir: tempfile::TempDir,
}

async fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        durability: Durability::None,
        ..Options::new(dir.path().join("a name with spaces, % and ?.db"))
    };
    let db = Db::open(&options).await.unwrap();
    Lab {
        env: Arc::new(SimEnv::new(1)),
        db,
        options,
        _dir: dir,
    }
}

fn region(env: &dyn Env, name: &str) -> Region {
    Region {
        id: RegionId::generate(env),
        name: name.parse().unwrap(),
    }
}

#[derive(Debug, PartialEq)]
enum Failure {
    Mine(usize),
    Db(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Db(error.to_string())
    }
}

async fn names(db: &Db) -> Vec<String> {
    let regions = region_list(&mut db.read().await.unwrap()).await.unwrap();
    regions
        .into_iter()
        .map(|region| region.name.into())
        .collect()
}

#[tokio::test]
async fn of_a_batch_each_job_is_kept_or_rolled_back_alone() {
    let lab = lab().await;
    let jobs: Vec<_> = (0..200_usize)
        .map(|n| {
            let (db, region) = (lab.db.clone(), region(&*lab.env, &format!("{n:03}")));
            tokio::spawn(async move {
                db.write(move |tx| {
                    Box::pin(async move {
                        region_insert(tx, &region).await?;
                        if n % 3 == 0 {
                            Err(Failure::Mine(n))
                        } else {
                            Ok(n)
                        }
                    })
                })
                .await
            })
        })
        .collect();
    for (n, job) in jobs.into_iter().enumerate() {
        let expected = if n % 3 == 0 {
            Err(Failure::Mine(n))
        } else {
            Ok(n)
        };
        assert_eq!(job.await.unwrap(), expected);
    }
    let kept: Vec<_> = (0..200)
        .filter(|n| n % 3 != 0)
        .map(|n| format!("{n:03}"))
        .collect();
    assert_eq!(names(&lab.db).await, kept);
}

#[tokio::test]
async fn a_statement_that_fails_takes_its_own_job_alone() {
    let lab = lab().await;
    let jobs: Vec<_> = ["a", "a", "b"]
        .map(|name| (lab.db.clone(), region(&*lab.env, name)))
        .into_iter()
        .map(|(db, region)| {
            tokio::spawn(async move {
                db.write(move |tx| Box::pin(async move { region_insert(tx, &region).await }))
                    .await
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for job in jobs {
        outcomes.push(job.await.unwrap().is_ok());
    }
    assert_eq!(outcomes, [true, false, true]);
    assert_eq!(names(&lab.db).await, ["a", "b"]);
}

#[tokio::test]
async fn a_job_that_panics_takes_nobody_with_it() {
    let lab = lab().await;
    let first = region(&*lab.env, "first");
    let panicked: Result<()> = lab
        .db
        .write(move |tx| {
            Box::pin(async move {
                region_insert(tx, &first).await?;
                panic!("a bug")
            })
        })
        .await;
    assert!(matches!(panicked, Err(Error::WriterGone)));
    let second = region(&*lab.env, "second");
    lab.db
        .write(move |tx| Box::pin(async move { region_insert(tx, &second).await }))
        .await
        .unwrap();
    assert_eq!(names(&lab.db).await, ["second"]);
}

#[tokio::test]
async fn a_reader_sees_one_moment_and_writes_nothing() {
    let lab = lab().await;
    let mut reader = lab.db.read().await.unwrap();
    assert!(region_list(&mut reader).await.unwrap().is_empty());
    let late = region(&*lab.env, "late");
    lab.db
        .write(move |tx| Box::pin(async move { region_insert(tx, &late).await }))
        .await
        .unwrap();
    assert!(region_list(&mut reader).await.unwrap().is_empty());
    let wrote = sqlx::query("DELETE FROM regions")
        .execute(&mut *reader)
        .await;
    assert!(wrote.is_err());
    drop(reader);
    assert_eq!(names(&lab.db).await, ["late"]);
}

#[tokio::test]
async fn a_database_opens_again_and_a_changed_migration_is_refused() {
    let lab = lab().await;
    drop(Db::open(&lab.options).await.unwrap());
    lab.db
        .write(|tx| {
            Box::pin(async move {
                let changed = "UPDATE migrations SET body = 'other' WHERE version = 2";
                sqlx::query(changed).execute(&mut **tx).await?;
                Ok::<_, Error>(())
            })
        })
        .await
        .unwrap();
    let again = Db::open(&lab.options).await;
    assert!(matches!(again, Err(Error::MigrationChanged { version: 2 })));
}

#[tokio::test]
async fn a_closed_database_is_one_file() {
    for _ in 0..50 {
        let Lab {
            db, options, _dir, ..
        } = lab().await;
        let reading = (db.read().await.unwrap(), db.read().await.unwrap());
        db.write(|tx| {
            Box::pin(async { region_insert(tx, &region(&SimEnv::new(2), "north")).await })
        })
        .await
        .unwrap();
        drop(reading);
        db.close().await;
        let mut log = options.path.into_os_string();
        log.push("-wal");
        assert!(!Path::new(&log).exists());
    }
}
