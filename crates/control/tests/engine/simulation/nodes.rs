//! Simulated nodes: each has its process, its tasks in hand, and a network that loses, repeats
//! and reorders.

use stillpoint_control::board::{Board, Rejection};
use stillpoint_env::SimEnv;
use stillpoint_model::ErrorKind;
use stillpoint_model::id::{NodeId, PoolId};
use stillpoint_model::instance::Sight;
use stillpoint_model::operation::{Phase, Progress};
use stillpoint_model::task::{Assignment, Directive, Report, TaskFailure, TaskOutcome, TaskSpec};

use super::storage::{World, failure};

/// How likely what is, in percent. All zero in the fault-free phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chances {
    pub lost_call: u64,
    pub lost_answer: u64,
    pub repeated: u64,
    pub fails: u64,
}

/// Where a task in hand is.
#[derive(Clone, Debug)]
enum Stage {
    /// Waits for its turn.
    Waiting,
    /// Its lease was confirmed after the wait.
    Begun,
    /// An upload whose run is open.
    Uploading(u64),
    /// An upload that has leave to put its manifest.
    Confirmed(u64),
    /// Over; nobody may have heard.
    Ended(Result<TaskOutcome, TaskFailure>),
}

struct Job {
    assignment: Assignment,
    stage: Stage,
    cancel: bool,
}

/// A message that is still under way when its sender is perhaps gone.
#[derive(Clone)]
pub struct Late {
    assignment: Assignment,
    result: Result<TaskOutcome, TaskFailure>,
}

pub struct Node {
    pub id: NodeId,
    pub pool: PoolId,
    /// What its machines did when it looked; not said yet.
    looked: Option<Vec<Sight>>,
    /// The board has said hello to this process.
    greeted: bool,
    jobs: Vec<Job>,
    /// It does nothing before this many rounds passed.
    pub paused: u64,
    /// Nobody reaches it before this many rounds passed.
    pub cut_off: u64,
}

/// What a node is connected to.
pub struct Link<'a> {
    pub env: &'a SimEnv,
    pub board: &'a Board,
    pub world: &'a mut World,
    pub late: &'a mut Vec<Late>,
    pub chances: Chances,
}

impl Link<'_> {
    fn happens(&self, percent: u64) -> bool {
        percent > 0 && self.env.below(100) < percent
    }
}

const IN_HAND: usize = 3;

impl Node {
    pub fn new(id: NodeId, pool: PoolId) -> Self {
        Self {
            id,
            pool,
            looked: None,
            greeted: false,
            jobs: Vec::new(),
            paused: 0,
            cut_off: 0,
        }
    }

    /// The process dies; what it had in hand is forgotten.
    pub fn crash(&mut self) {
        self.jobs.clear();
        self.looked = None;
        self.greeted = false;
        self.paused = 0;
    }

    /// A round passes.
    pub fn tick(&mut self) {
        self.paused = self.paused.saturating_sub(1);
        self.cut_off = self.cut_off.saturating_sub(1);
    }

    /// Does one thing.
    pub async fn act(&mut self, link: &mut Link<'_>) -> String {
        if self.paused > 0 {
            return "paused".into();
        }
        if !self.greeted {
            return self.greet(link).await;
        }
        let choices = u64::try_from(self.jobs.len()).expect("few") + 1;
        let choice = usize::try_from(link.env.below(choices)).expect("few");
        if choice < self.jobs.len() {
            self.work(choice, link).await
        } else if link.env.below(4) == 0 {
            self.look(link).await
        } else if self.jobs.len() < IN_HAND {
            self.ask(link).await
        } else {
            "busy".into()
        }
    }

    fn unreachable(&self, link: &Link<'_>) -> bool {
        self.cut_off > 0 || link.happens(link.chances.lost_call)
    }

    async fn greet(&mut self, link: &mut Link<'_>) -> String {
        if self.unreachable(link) {
            return "hello lost".into();
        }
        link.board.hello(self.id).await.expect("hello");
        self.greeted = !link.happens(link.chances.lost_answer);
        "hello".into()
    }

    /// Looks at its machines; says another time what it saw.
    async fn look(&mut self, link: &mut Link<'_>) -> String {
        let Some(sights) = self.looked.take() else {
            self.looked = Some(link.world.sights(self.pool));
            return "looks".into();
        };
        if self.unreachable(link) {
            return "nobody hears what it saw".into();
        }
        let said = link.board.sighted(self.id, sights).await;
        said.expect("heard");
        "says what it saw".into()
    }

    async fn ask(&mut self, link: &mut Link<'_>) -> String {
        if self.unreachable(link) {
            return "question lost".into();
        }
        let given = link.board.take(self.id).await.expect("the board");
        let Some(assignment) = given else {
            return "nothing to do".into();
        };
        let said = format!("takes {:?}", assignment.spec);
        if !link.happens(link.chances.lost_answer) {
            self.jobs.push(Job {
                assignment,
                stage: Stage::Waiting,
                cancel: false,
            });
        }
        said
    }

    fn is_owned_by_another(&self, index: usize) -> bool {
        let owners = self.jobs[index].assignment.spec.owners();
        self.jobs.iter().enumerate().any(|(other, job)| {
            other != index
                && !matches!(job.stage, Stage::Waiting | Stage::Ended(_))
                && job
                    .assignment
                    .spec
                    .owners()
                    .iter()
                    .any(|o| owners.contains(o))
        })
    }

    async fn work(&mut self, index: usize, link: &mut Link<'_>) -> String {
        let stage = self.jobs[index].stage.clone();
        let name = format!("{:?}", self.jobs[index].assignment.spec);
        let did = match stage {
            Stage::Waiting => self.begin(index, link).await,
            Stage::Begun => self.perform(index, link).await,
            Stage::Uploading(run) => self.confirm(index, run, link).await,
            Stage::Confirmed(run) => self.put(index, run, link),
            Stage::Ended(result) => self.finish(index, result, link).await,
        };
        format!("{did} {name}")
    }

    async fn begin(&mut self, index: usize, link: &mut Link<'_>) -> &'static str {
        if self.is_owned_by_another(index) || self.unreachable(link) {
            return "waits";
        }
        match self.report(index, link).await {
            Some(true) => {
                self.jobs[index].stage = Stage::Begun;
                "begins"
            }
            Some(false) => {
                self.jobs.remove(index);
                "puts aside"
            }
            None => "waits",
        }
    }

    /// Whether the lease holds; none when the answer was lost.
    async fn report(&mut self, index: usize, link: &mut Link<'_>) -> Option<bool> {
        let job = &mut self.jobs[index];
        let report = Report {
            task_id: job.assignment.task_id,
            fence: job.assignment.fence,
            progress: Progress::start(Phase::DataCapture),
        };
        let answer = link.board.report(report).await;
        if link.happens(link.chances.lost_answer) {
            return None;
        }
        match answer {
            Ok(directive) => {
                job.cancel |= directive == Directive::Cancel;
                Some(true)
            }
            Err(Rejection::Fenced) => Some(false),
            Err(Rejection::Fault(error)) => panic!("{error:?}"),
        }
    }

    async fn perform(&mut self, index: usize, link: &mut Link<'_>) -> &'static str {
        if !self.unreachable(link) && link.env.below(3) == 0 {
            // It takes its time, and says so.
            if self.report(index, link).await == Some(false) && link.env.below(2) == 0 {
                self.jobs.remove(index);
                return "stops";
            }
            return "reports";
        }
        let job = &mut self.jobs[index];
        if job.cancel && link.env.below(2) == 0 {
            job.stage = Stage::Ended(Err(failure(ErrorKind::Cancelled)));
            return "cancels";
        }
        if link.happens(link.chances.fails) {
            let kinds = [ErrorKind::Retry, ErrorKind::Internal, ErrorKind::Full];
            let kind = kinds[usize::try_from(link.env.below(3)).expect("few")];
            if link.env.below(2) == 0 {
                drop(perform(job, link.world));
            }
            job.stage = Stage::Ended(Err(failure(kind)));
            return "fails";
        }
        job.stage = match perform(job, link.world) {
            Performed::Run(run) => Stage::Uploading(run),
            Performed::Ended(result) => Stage::Ended(result),
        };
        "does"
    }

    async fn confirm(&mut self, index: usize, run: u64, link: &mut Link<'_>) -> &'static str {
        if self.unreachable(link) {
            return "asks nobody for";
        }
        let job = &mut self.jobs[index];
        let (task, fence) = (job.assignment.task_id, job.assignment.fence);
        let answer = link.board.confirm(task, fence).await;
        if link.happens(link.chances.lost_answer) {
            return "asks in vain for";
        }
        job.stage = match answer {
            Ok(Directive::Continue) => Stage::Confirmed(run),
            Ok(Directive::Cancel) => Stage::Ended(Err(failure(ErrorKind::Cancelled))),
            Err(Rejection::Fenced) => Stage::Ended(Err(failure(ErrorKind::Fenced))),
            Err(Rejection::Fault(error)) => panic!("{error:?}"),
        };
        "confirms"
    }

    fn put(&mut self, index: usize, run: u64, link: &mut Link<'_>) -> &'static str {
        let job = &mut self.jobs[index];
        let TaskSpec::BackupUpload {
            volume_id,
            backup_id,
            ..
        } = job.assignment.spec
        else {
            panic!("only uploads are confirmed");
        };
        let put = link
            .world
            .put_manifest(job.assignment.pool_id, volume_id, backup_id, run);
        job.stage = Stage::Ended(put);
        "puts"
    }

    async fn finish(
        &mut self,
        index: usize,
        result: Result<TaskOutcome, TaskFailure>,
        link: &mut Link<'_>,
    ) -> &'static str {
        let assignment = self.jobs[index].assignment.clone();
        let late = Late { assignment, result };
        if self.cut_off > 0 {
            return "cannot say";
        }
        if link.happens(link.chances.repeated) {
            link.late.push(late.clone());
        }
        if link.happens(link.chances.lost_call) {
            return "says in vain";
        }
        late.deliver(link.board).await;
        if !link.happens(link.chances.lost_answer) {
            self.jobs.remove(index);
        }
        "ends"
    }
}

impl Late {
    pub async fn deliver(self, board: &Board) {
        let (task, fence) = (self.assignment.task_id, self.assignment.fence);
        match board.finish(task, fence, self.result).await {
            Ok(()) | Err(Rejection::Fenced) => {}
            Err(Rejection::Fault(error)) => panic!("{error:?}"),
        }
    }
}

enum Performed {
    Run(u64),
    Ended(Result<TaskOutcome, TaskFailure>),
}

fn perform(job: &Job, world: &mut World) -> Performed {
    let spec = &job.assignment.spec;
    if let TaskSpec::BackupUpload { backup_id, .. } = spec {
        return match world.begin_upload(*backup_id) {
            Ok(run) => Performed::Run(run),
            Err(stored) => Performed::Ended(Ok(*stored)),
        };
    }
    Performed::Ended(world.perform(job.assignment.pool_id, spec))
}
