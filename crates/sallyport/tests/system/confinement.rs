//! A hostile program that the gateway starts, which runs as the gateway's user and wants everything that is
//! the gateway's: its keys, its log, its memory, its end.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::agent::{Agent, Token};
use crate::support::{Gateway, SALLYPORT, Setup};

const TEMPLATE: &str = r#"
description = "Try something"
agents = ["*"]
ttl = "10m"

[[allow]]
server = "confined"
tools = ["attempt"]

[[allow]]
server = "free"
tools = ["attempt"]
"#;

/// What `confine` says of the hostile program.
const LIMITS: &str =
    "{ memory_bytes = 268435456, file_bytes = 1048576, open_files = 64, processes = 3333 }";

/// A gateway with the hostile program, once confined and once not, and what the program works in.
struct Stage {
    gateway: Gateway,
    agent: Agent,
    tokens: [Token; 2],
    /// The folder that both programs run in.
    work: PathBuf,
    /// A folder with the file of a secret in it.
    secrets: PathBuf,
    _folders: [tempfile::TempDir; 2],
}

#[derive(Clone, Copy)]
enum Server {
    Confined,
    Free,
}

impl Stage {
    async fn new() -> Self {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [work, secrets] = folders
            .each_ref()
            .map(|dir| dir.path().canonicalize().unwrap());
        std::fs::write(secrets.join("token"), "hunter2hunter2").unwrap();
        std::fs::write(secrets.join("beside"), "no secret").unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/hostile.py");
        let command = ["python3", script.to_str().unwrap()];
        let directory = format!("directory = {work:?}");
        let gateway = Setup::new()
            .stdio("confined", &command)
            .and(&directory)
            .and(&format!("confine = {LIMITS}"))
            .stdio("free", &command)
            .and(&directory)
            .and("confine = \"off\"")
            // What it reads is to be seen as it is: keys would be taken out.
            .and("inspection = { secrets = \"report\" }")
            // The secret is another server's.
            .and(&format!(
                "environment = {{ TOKEN = {{ file = {:?} }} }}",
                secrets.join("token")
            ))
            .template("try", TEMPLATE)
            .start()
            .await;
        let agent = gateway.agent("intruder").await;
        let task = agent.open_task("try", json!({})).await;
        let tokens = [
            agent.token("confined", &task, true).await,
            agent.token("free", &task, true).await,
        ];
        Self {
            gateway,
            agent,
            tokens,
            work,
            secrets,
            _folders: folders,
        }
    }

    async fn attempt(&self, server: Server, how: &str, what: impl Into<Value>) -> Value {
        let arguments = json!({ "how": how, "what": what.into() });
        let token = &self.tokens[server as usize];
        let answer = self.agent.call(token, "attempt", arguments).await;
        let text = answer["result"]["content"][0]["text"].as_str();
        serde_json::from_str(text.unwrap_or_else(|| panic!("{how}: {answer}"))).unwrap()
    }

    async fn refused(&self, how: &str, what: impl Into<Value>) {
        let what = what.into();
        let came = self.attempt(Server::Confined, how, what.clone()).await;
        // EPERM, EACCES, EXDEV and EFBIG: refused, not merely absent.
        let refusals = [1, 13, 18, 27].map(|errno| json!(errno));
        assert!(refusals.contains(&came["errno"]), "{how} {what}: {came}");
    }

    async fn done(&self, server: Server, how: &str, what: impl Into<Value>) -> Value {
        let what = what.into();
        let mut came = self.attempt(server, how, what.clone()).await;
        assert!(came.get("done").is_some(), "{how} {what}: {came}");
        came["done"].take()
    }

    fn own(&self, path: &str) -> String {
        let root = self.gateway.dir().canonicalize().unwrap();
        root.join(path).to_str().unwrap().to_owned()
    }
}

/// Whether this kernel can keep programs from files. Where it cannot, that is said, and what only it could
/// do is not checked.
fn kernel_can() -> bool {
    let limits = [
        "--memory-bytes",
        "--file-bytes",
        "--open-files",
        "--processes",
    ];
    let can = Command::new(SALLYPORT)
        .args(["confined", "--enforce", "required"])
        .args(limits.iter().flat_map(|limit| [limit, "4000000000"]))
        .args(["--", "true"])
        .stdout(Stdio::null())
        .output()
        .unwrap();
    if !can.status.success() {
        eprintln!(
            "NOT CHECKED: what Landlock does, since this kernel has none: {}",
            String::from_utf8_lossy(&can.stderr)
        );
    }
    can.status.success()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reaches_nothing_that_is_the_gateways() {
    if !kernel_can() {
        return;
    }
    let stage = Stage::new().await;
    let kid = std::fs::read_dir(stage.own("data/keys")).unwrap().next();
    let key = text(&kid.unwrap().unwrap().path().canonicalize().unwrap());
    let secret = text(&stage.secrets.join("token"));
    let files = [
        stage.own("data/operator.token"),
        stage.own("data/log.key"),
        stage.own("data/sallyport.db"),
        key,
        secret,
    ];
    for file in &files {
        // All of it is there for the taking for one that is not confined.
        for how in ["read", "through_link", "through_folders"] {
            stage.done(Server::Free, how, file.as_str()).await;
        }
        for how in [
            "read",
            "write",
            "remove",
            "move",
            "empty",
            "through_link",
            "through_hard_link",
            "through_folders",
        ] {
            stage.refused(how, file.as_str()).await;
        }
    }
    for folder in ["data", "data/keys", "data/log"] {
        stage.done(Server::Free, "list", stage.own(folder)).await;
        stage.refused("list", stage.own(folder)).await;
        stage
            .refused("make", stage.own(&format!("{folder}/new")))
            .await;
        stage.refused("move", stage.own(folder)).await;
    }
    // What it could permit itself something with is there to read, but not to change.
    for file in [
        "sallyport.toml",
        "templates/try.toml",
        "policies/test.cedar",
    ] {
        stage.done(Server::Confined, "read", stage.own(file)).await;
        for how in ["write", "remove", "move", "empty"] {
            stage.refused(how, stage.own(file)).await;
        }
    }
    for folder in ["templates", "policies", "."] {
        stage
            .refused("make", stage.own(&format!("{folder}/new")))
            .await;
    }
    stage.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reaches_no_process_but_its_own() {
    if !kernel_can() {
        return;
    }
    let stage = Stage::new().await;
    let gateway = stage.gateway.pid();
    for file in [
        "environ",
        "mem",
        "maps",
        "fd/0",
        "root/etc/passwd",
        "cwd/sallyport.toml",
    ] {
        stage
            .refused("read", format!("/proc/{gateway}/{file}"))
            .await;
    }
    // Only root sees which there are; what they are, nobody.
    let open = std::fs::read_dir(format!("/proc/{gateway}/fd"));
    for file in open
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
    {
        let came = stage.attempt(Server::Confined, "read", text(&file)).await;
        assert!(came.get("refused").is_some(), "{}: {came}", file.display());
    }
    // This test's own process is as strange to it.
    let other = std::process::id();
    stage
        .refused("read", format!("/proc/{other}/environ"))
        .await;
    stage.refused("trace", gateway).await;
    stage.refused("trace", other).await;
    stage.done(Server::Free, "signal", gateway).await;
    let signalled = stage.attempt(Server::Confined, "signal", gateway).await;
    if signalled.get("done").is_some() {
        eprintln!("NOT CHECKED: signals, which Landlock restricts since Linux 6.12");
        assert!(stage.gateway.stderr().contains("does not restrict signals"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_has_what_it_needs() {
    let stage = Stage::new().await;
    stage
        .done(Server::Confined, "write", text(&stage.work.join("new")))
        .await;
    stage
        .done(Server::Confined, "make", text(&stage.work.join("folder")))
        .await;
    stage.done(Server::Confined, "write", "/dev/null").await;
    for file in ["/etc/passwd", "/dev/urandom", "/proc/self/status"] {
        stage.done(Server::Confined, "read", file).await;
    }
    let beside = stage.secrets.join("beside");
    let read = stage.done(Server::Confined, "read", text(&beside)).await;
    assert_eq!(read, "no secret");
    if kernel_can() {
        stage.refused("write", text(&beside)).await;
    }

    let facts = stage.done(Server::Confined, "facts", Value::Null).await;
    // The streams, the pipe that the script makes, and the folder that it lists.
    assert_eq!(facts["files"], json!([0, 1, 2, 3, 4, 5]), "{facts}");
    assert_eq!(facts["group"], true);
    let privileges = facts["privileges"].as_str().unwrap();
    assert!(privileges.contains("NoNewPrivs:\t1\n"), "{privileges}");
    // CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID and NET_BIND_SERVICE, for root only.
    for set in ["CapPrm", "CapEff"] {
        let kept = ["0000000000000000", "00000000000004db"];
        let is_kept = |kept: &&str| privileges.contains(&format!("{set}:\t{kept}\n"));
        assert!(kept.iter().any(is_kept), "{privileges}");
    }
    let limits = json!({
        "CORE": 0, "NPROC": 3333, "NOFILE": 64, "DATA": 268_435_456, "FSIZE": 1_048_576,
    });
    assert_eq!(facts["limits"], limits);

    let temporary = PathBuf::from(facts["temporary"].as_str().unwrap());
    assert!(temporary.is_dir());
    stage
        .done(Server::Confined, "write", text(&temporary.join("x")))
        .await;
    let mut gateway = stage.gateway;
    assert!(gateway.terminate().success());
    assert!(!temporary.exists(), "its temporary folder goes with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_does_not_outgrow_its_limits() {
    let stage = Stage::new().await;
    stage.done(Server::Confined, "memory", 1 << 20).await;
    stage.done(Server::Free, "memory", 1 << 29).await;
    let came = stage.attempt(Server::Confined, "memory", 1 << 29).await;
    assert_eq!(came["refused"], "MemoryError");
    stage.done(Server::Confined, "long_file", 1 << 19).await;
    stage.done(Server::Free, "long_file", 1 << 21).await;
    stage.refused("long_file", 1 << 21).await;
    // Children are restricted as it is, and end with it.
    let children = stage.done(Server::Confined, "fork", Value::Null).await;
    assert_eq!(children, 100);
}
