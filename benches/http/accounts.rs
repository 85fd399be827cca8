//! Users with two funded accounts each, created through the API of the service.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::process::Server;

const ADMIN: &str = "admin@example.com";
pub const PASSWORD: &str = "correct horse battery staple 41";
/// Minor units, more than any run transfers.
const FUNDS: i64 = 1_000_000_000_000;

/// Settings of the service that [`Pair::open`] needs.
pub const SETTINGS: [(&str, &str); 4] = [
    ("APP__AUTH__BOOTSTRAP_ADMIN_EMAIL", ADMIN),
    ("APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD", PASSWORD),
    ("APP__RATE_LIMIT__AUTH__PER_SECOND", "100000"),
    ("APP__RATE_LIMIT__AUTH__BURST", "100000"),
];

/// Two accounts of one user.
pub struct Pair {
    pub owner: String,
    pub token: String,
    pub from: String,
    pub to: String,
}

impl Pair {
    /// Opens this many pairs, each for its own user.
    pub async fn open(service: &Server, count: usize) -> anyhow::Result<Vec<Self>> {
        let api = Api::new(service)?;
        let admin = api.log_in(ADMIN).await?.access;
        let mut pairs = Vec::new();
        for _ in 0..count {
            let user = api.register().await?;
            let token = api.log_in(&user.email).await?.access;
            let mut accounts = Vec::new();
            for name in ["from", "to"] {
                let body = json!({ "currency": "EUR", "name": name });
                let account = text(&api.post("accounts", Some(&token), &body).await?, "id")?;
                let body = json!({ "account": account, "amount": FUNDS, "reference": "bench" });
                api.post("deposits", Some(&admin), &body).await?;
                accounts.push(account);
            }
            let (Some(to), Some(from)) = (accounts.pop(), accounts.pop()) else {
                anyhow::bail!("two accounts were opened");
            };
            pairs.push(Self {
                owner: user.id,
                token,
                from,
                to,
            });
        }
        Ok(pairs)
    }

    /// An encoded request with both the owner, which the bare handler reads, and the token, which
    /// the service reads.
    fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        format!(
            "{method} /api/v1/{path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
             X-Owner: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            self.owner,
            body.len()
        )
        .into_bytes()
    }

    pub fn read(&self) -> Vec<u8> {
        self.request("GET", &format!("accounts/{}", self.from), "")
    }

    pub fn transfer(&self, from: &str, to: &str) -> Vec<u8> {
        let body = json!({
            "from_account": from, "to_account": to, "amount": 1, "reference": "bench",
        });
        self.request("POST", "transfers", &body.to_string())
    }
}

/// The kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Reads one account by its id.
    Read,
    /// Transfers between the two accounts of each client's user.
    Spread,
    /// Transfers from one account, to many.
    Hot,
}

/// User, paying and receiving account of a client's transfer.
pub fn target(pairs: &[Pair], work: Work, index: usize) -> (&Pair, &str, &str) {
    let own = &pairs[index];
    if work == Work::Hot {
        (&pairs[0], &pairs[0].from, &own.to)
    } else {
        (own, &own.from, &own.to)
    }
}

/// A registered user.
#[derive(Clone)]
pub struct User {
    pub id: String,
    pub email: String,
}

/// The tokens of a session.
pub struct Tokens {
    pub access: String,
    refresh: String,
}

impl Tokens {
    /// An encoded request for the own user.
    pub fn read_user(&self) -> Vec<u8> {
        format!(
            "GET /api/v1/users/me HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n",
            self.access
        )
        .into_bytes()
    }
}

/// A client of the service.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    address: SocketAddr,
}

impl Api {
    pub fn new(service: &Server) -> anyhow::Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().no_proxy().build()?,
            address: service.address(),
        })
    }

    async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> anyhow::Result<Value> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let mut request = self.http.post(url).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body = answer.text().await?;
        ensure!(status.is_success(), "POST {path}: {status}: {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// Registers a user with [`PASSWORD`].
    pub async fn register(&self) -> anyhow::Result<User> {
        let email = format!("bench-{}@example.com", uuid::Uuid::now_v7().simple());
        let body = json!({ "email": email, "name": "Bench", "password": PASSWORD });
        let user = self.post("auth/register", None, &body).await?;
        let id = text(&user, "id")?;
        Ok(User { id, email })
    }

    pub async fn log_in(&self, email: &str) -> anyhow::Result<Tokens> {
        let body = json!({ "email": email, "password": PASSWORD });
        tokens(&self.post("auth/login", None, &body).await?)
    }

    pub async fn refresh(&self, old: &Tokens) -> anyhow::Result<Tokens> {
        let body = json!({ "refresh_token": old.refresh });
        tokens(&self.post("auth/refresh", None, &body).await?)
    }

    /// The status of a login.
    pub async fn try_login(&self, email: &str, password: &str) -> anyhow::Result<u16> {
        let url = format!("http://{}/api/v1/auth/login", self.address);
        let body = json!({ "email": email, "password": password });
        Ok(self
            .http
            .post(url)
            .json(&body)
            .send()
            .await?
            .status()
            .as_u16())
    }

    /// Asks whether the process lives.
    pub async fn probe(&self) -> anyhow::Result<()> {
        let url = format!("http://{}/health/live", self.address);
        self.http.get(url).send().await?.error_for_status()?;
        Ok(())
    }
}

fn tokens(answer: &Value) -> anyhow::Result<Tokens> {
    Ok(Tokens {
        access: text(answer, "access_token")?,
        refresh: text(answer, "refresh_token")?,
    })
}

fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    let text = value[name].as_str().map(str::to_owned);
    text.with_context(|| format!("the answer has no {name}"))
}
