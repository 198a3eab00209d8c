//! Who may speak for which node.

use std::time::Instant;

use margay_policy::model::NodeName;

use crate::cluster::review::Reviewer;
use crate::tokens::Tokens;

/// How agents' tokens are checked.
pub(crate) enum Identity {
    /// By a file.
    File(Tokens),
    /// By the API server.
    Review(Box<Reviewer>),
}

/// Why a request may not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// No token at all.
    #[error("no token: send the header `Authorization: Bearer TOKEN` with the node's token")]
    Missing,
    /// Not a token of this or any other node.
    #[error(
        "the token is not one of node {0}: compare the node's token file with the controller's --tokens"
    )]
    Wrong(NodeName),
    /// Another node's.
    #[error("the token belongs to node {owner}, which may not speak for node {node}")]
    OtherNode {
        /// Whose token it is.
        owner: NodeName,
        /// Whose it should be.
        node: NodeName,
    },
    /// The API server does not know it.
    #[error("the API server does not accept the token: {0}")]
    Invalid(String),
    /// A token of somebody else.
    #[error("the token belongs to {user}; agents are {agents}")]
    NotAgent {
        /// Whose it is.
        user: String,
        /// Whose it should be.
        agents: String,
    },
    /// It cannot be checked now.
    #[error("the API server cannot be asked about the token, try again: {0}")]
    Unavailable(String),
}

impl Identity {
    /// Whether the bearer of `token` may speak for `node`, and until when; `None` is for ever.
    ///
    /// # Errors
    /// [`Denied`], with a sentence.
    pub(crate) async fn check(
        &self,
        node: &NodeName,
        token: Option<&str>,
    ) -> Result<Option<Instant>, Denied> {
        let token = token.ok_or(Denied::Missing)?;
        match self {
            Self::File(tokens) => tokens.check(node, token).map(|()| None),
            Self::Review(reviewer) => reviewer.check(node, token).await,
        }
    }
}
