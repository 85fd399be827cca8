//! A user of the API.

use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{Service, service};

const PASSWORD: &str = "a much better passphrase";

/// A logged-in user.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    /// Registers a user with this name and logs in.
    pub async fn register(service: &Service, name: &str) -> Self {
        let email = format!("{name}@example.com");
        let body = json!({ "email": email, "name": name, "password": PASSWORD });
        let url = service.url("/api/v1/auth/register");
        let answer = service.client.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        Self::login(service, name).await
    }

    /// Logs in a registered user.
    pub async fn login(service: &Service, name: &str) -> Self {
        Self::with_credentials(service, &format!("{name}@example.com"), PASSWORD).await
    }

    /// The first administrator.
    pub async fn admin(service: &Service) -> Self {
        Self::with_credentials(service, service::ADMIN_EMAIL, service::ADMIN_PASSWORD).await
    }

    async fn with_credentials(service: &Service, email: &str, password: &str) -> Self {
        let body = json!({ "email": email, "password": password });
        let url = service.url("/api/v1/auth/login");
        let answer = service.client.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.unwrap();
        Self {
            http: service.client.clone(),
            base: service.url(""),
            token: answer["access_token"].as_str().unwrap().to_owned(),
        }
    }

    /// The same user and token at another replica.
    pub fn at(&self, service: &Service) -> Self {
        Self {
            base: service.url(""),
            ..self.clone()
        }
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = method.parse().unwrap();
        let url = format!("{}{path}", self.base);
        self.http.request(method, url).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request("POST", path).json(body).send().await.unwrap()
    }

    /// Erases the user.
    pub async fn leave(&self) -> Response {
        let body = json!({ "current_password": PASSWORD });
        let request = self.request("DELETE", "/api/v1/users/me");
        request.json(&body).send().await.unwrap()
    }

    /// Opens an account and returns its id.
    pub async fn open(&self, currency: &str) -> String {
        let body = json!({ "currency": currency, "name": "Savings" });
        let answer = self.post("/api/v1/accounts", &body).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        id(&answer.json().await.unwrap())
    }

    /// Deposits money as administrator.
    pub async fn deposit(&self, account: &str, amount: i64) {
        let body = json!({ "account": account, "amount": amount, "reference": "opening" });
        let answer = self.post("/api/v1/deposits", &body).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
    }

    pub async fn balance(&self, account: &str) -> i64 {
        let answer = self.get(&format!("/api/v1/accounts/{account}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let account: Value = answer.json().await.unwrap();
        account["balance"].as_i64().unwrap()
    }
}

pub fn id(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}

pub fn transfer(from: &str, to: &str, amount: i64) -> Value {
    json!({ "from_account": from, "to_account": to, "amount": amount, "reference": "rent" })
}

/// The names of an object's members, sorted.
pub fn members(object: &Value) -> Vec<&str> {
    let mut members: Vec<_> = object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    members
}
