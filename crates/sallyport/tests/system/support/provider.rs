//! A provider of models that says what a test wants.

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::requests;

/// A template for it, when it is called `ai`.
pub(crate) const TALK: &str = r#"
description = "Talk to a model"
agents = ["*"]
ttl = "10m"
proof = "bearer"
budget = { calls = 100 }

[[allow]]
server = "ai"
models = ["*"]
"#;

/// A provider that answers every request with the same JSON; its URL.
pub(crate) async fn answering(answer: &Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    url
}

/// Answers one connection's requests, each once it is there as a whole.
async fn serve(mut stream: TcpStream, answer: String) {
    while requests::next(&mut stream).await.is_some() {
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
