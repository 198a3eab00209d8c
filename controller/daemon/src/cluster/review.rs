//! Agents' tokens: projected service account tokens, checked by `TokenReview`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use margay_policy::model::NodeName;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tracing::debug;

use super::ANSWER;
use crate::clock;
use crate::identity::Denied;

/// Whom the token has to be meant for.
const AUDIENCE: &str = "margay";
/// Where the API server says which node the token's pod runs on.
const NODE_CLAIM: &str = "authentication.kubernetes.io/node-name";
/// How long an answer is good.
const FRESH: Duration = Duration::from_mins(1);
/// How long a refusal is: somebody who tries over and over shall not keep the API server busy.
const REFUSED: Duration = Duration::from_secs(5);
/// Answers to remember; more than there are agents.
const REMEMBERED: usize = 20_000;

/// Asks the API server, and remembers its answers by the token's hash.
///
/// While the API server cannot be asked, what it said last of the very same token holds until the token expires.
pub(crate) struct Reviewer {
    api: Api<TokenReview>,
    /// User name of the agents' service account.
    agents: String,
    answers: Mutex<HashMap<[u8; 32], Answer>>,
}

#[derive(Clone, Debug)]
struct Answer {
    at: Instant,
    /// Seconds since 1970 when the token expires, if it says so itself.
    expires: Option<u64>,
    result: Result<NodeName, Denied>,
}

impl Reviewer {
    /// Accepts tokens of the service account `agents` in `namespace`.
    pub(crate) fn new(client: Client, namespace: &str, agents: &str) -> Self {
        Self {
            api: Api::all(client),
            agents: format!("system:serviceaccount:{namespace}:{agents}"),
            answers: Mutex::default(),
        }
    }

    /// Whether the bearer of `token` may speak for `node`, and until when; `None` if the token does not say.
    ///
    /// # Errors
    /// [`Denied`], with a sentence.
    pub(crate) async fn check(
        &self,
        node: &NodeName,
        token: &str,
    ) -> Result<Option<Instant>, Denied> {
        let owner = self.owner(token).await?;
        if owner == *node {
            let left = expiry(token).map(|end| end.saturating_sub(clock::unix_seconds()));
            return Ok(left.map(|left| clock::now() + Duration::from_secs(left)));
        }
        Err(Denied::OtherNode {
            owner,
            node: node.clone(),
        })
    }

    /// The node that a token belongs to.
    async fn owner(&self, token: &str) -> Result<NodeName, Denied> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let known = self.answers().get(&hash).cloned();
        if let Some(answer) = &known
            && answer.is_fresh(clock::now())
        {
            return answer.result.clone();
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let parameters = PostParams::default();
        let reason = match timeout(ANSWER, self.api.create(&parameters, &review)).await {
            Ok(Ok(review)) => {
                let result = judge(&review, &self.agents);
                self.remember(hash, expiry(token), result.clone());
                return result;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
        };
        match known {
            Some(answer) if answer.expires.is_some_and(|at| at > clock::unix_seconds()) => {
                debug!(
                    reason,
                    "the API server cannot be asked about a token; its last answer holds"
                );
                answer.result
            }
            _ => Err(Denied::Unavailable(reason)),
        }
    }

    fn remember(&self, hash: [u8; 32], expires: Option<u64>, result: Result<NodeName, Denied>) {
        let mut answers = self.answers();
        let (now, seconds) = (clock::now(), clock::unix_seconds());
        if answers.len() >= REMEMBERED {
            answers.retain(|_, answer| {
                answer.is_fresh(now) && answer.expires.is_none_or(|at| at > seconds)
            });
        }
        if answers.len() < REMEMBERED {
            let answer = Answer {
                at: now,
                expires,
                result,
            };
            answers.insert(hash, answer);
        }
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Answer>> {
        self.answers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Answer {
    fn is_fresh(&self, now: Instant) -> bool {
        let good = if self.result.is_ok() { FRESH } else { REFUSED };
        now.saturating_duration_since(self.at) < good
    }
}

/// What an answered review means.
fn judge(review: &TokenReview, agents: &str) -> Result<NodeName, Denied> {
    let status = review.status.clone().unwrap_or_default();
    if status.authenticated != Some(true) {
        return Err(Denied::Invalid(status.error.unwrap_or_default()));
    }
    let meant = status.audiences.unwrap_or_default();
    if !meant.iter().any(|audience| audience == AUDIENCE) {
        return Err(Denied::Invalid(format!(
            "it is not meant for the audience `{AUDIENCE}`"
        )));
    }
    let UserInfo {
        username, extra, ..
    } = status.user.unwrap_or_default();
    let user = username.unwrap_or_default();
    if user != agents {
        // Any pod can get itself a token of this audience and its own account.
        return Err(Denied::NotAgent {
            user,
            agents: agents.to_owned(),
        });
    }
    let mut claim = extra.unwrap_or_default();
    match claim.remove(NODE_CLAIM).as_deref() {
        Some([node]) if !node.is_empty() => Ok(NodeName(node.clone())),
        _ => Err(Denied::Invalid(
            "it does not say which node its pod runs on: use a projected token of a pod".to_owned(),
        )),
    }
}

/// Seconds since 1970 when a token expires, by its own words. The API server has checked them.
fn expiry(token: &str) -> Option<u64> {
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1)?)
        .ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims.get("exp")?.as_u64()
}

#[cfg(test)]
mod tests;
