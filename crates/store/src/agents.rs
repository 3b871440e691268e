//! Agents, their enrolments and their instances.

use jiff::Timestamp;
use model::{Agent, AgentName, Instance, InstanceId, Lifecycle};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::owed::owe;
use crate::row::{Reader, nanos};
use crate::{Store, StoreError};

impl Store {
    /// Adds an agent.
    ///
    /// # Errors
    /// [`StoreError::AgentExists`] when the name is or was in use.
    pub async fn insert_agent(&self, agent: &Agent) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO agents (name, sponsor, segment, lifecycle, registered_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(agent.name.as_str())
        .bind(&agent.sponsor)
        .bind(agent.segment.as_ref().map(|segment| segment.as_str()))
        .bind(agent.lifecycle.as_str())
        .bind(nanos(agent.registered_at))
        .execute(&self.writer)
        .await
        .map_err(|error| {
            if StoreError::is_duplicate(&error) {
                StoreError::AgentExists(agent.name.clone())
            } else {
                error.into()
            }
        })?;
        Ok(())
    }

    /// One agent.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn agent(&self, name: &AgentName) -> Result<Option<Agent>, StoreError> {
        sqlx::query("SELECT * FROM agents WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.readers)
            .await?
            .map(|row| agent(&row))
            .transpose()
    }

    /// All agents, by name, retired ones too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        sqlx::query("SELECT * FROM agents ORDER BY name")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(agent)
            .collect()
    }

    /// How many agents there are, by where they are in their life.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn agent_counts(&self) -> Result<Vec<(Lifecycle, u64)>, StoreError> {
        sqlx::query("SELECT lifecycle, COUNT(*) AS number FROM agents GROUP BY lifecycle")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                let reader = Reader { what: "agent", row };
                Ok((lifecycle(&reader)?, reader.position("number")?))
            })
            .collect()
    }

    /// Agents, the latest registered first; those registered before `before`, if it is given.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn agents_page(
        &self,
        before: Option<&AgentName>,
        limit: u32,
    ) -> Result<Vec<Agent>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM agents");
        if let Some(before) = before {
            query
                .push(
                    " WHERE (registered_at, name) < \
                     (SELECT registered_at, name FROM agents WHERE name = ",
                )
                .push_bind(before.as_str())
                .push(")");
        }
        query
            .push(" ORDER BY registered_at DESC, name DESC LIMIT ")
            .push_bind(i64::from(limit));
        query
            .build()
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(agent)
            .collect()
    }

    /// Sets where an agent is in its life, if it may go there from where it is now. Returns
    /// whether it is there after that because of this call: false when there is no such agent or
    /// the lifecycle does not know the step. An agent that is stopped loses its enrolment tokens.
    /// `owed` is kept for the audit log when the step is made.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn set_lifecycle(
        &self,
        name: &AgentName,
        next: Lifecycle,
        owed: Option<&[u8]>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let row = sqlx::query("SELECT * FROM agents WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let allowed = match row {
            Some(row) => agent(&row)?.lifecycle.may_become(next),
            None => false,
        };
        if allowed {
            sqlx::query("UPDATE agents SET lifecycle = $2 WHERE name = $1")
                .bind(name.as_str())
                .bind(next.as_str())
                .execute(&mut *transaction)
                .await?;
            if matches!(next, Lifecycle::Quarantined | Lifecycle::Retired) {
                sqlx::query("DELETE FROM enrolments WHERE agent = $1 AND used_at IS NULL")
                    .bind(name.as_str())
                    .execute(&mut *transaction)
                    .await?;
            }
            owe(&mut transaction, owed).await?;
        }
        transaction.commit().await?;
        Ok(allowed)
    }

    /// Keeps the hash of a new enrolment token for an agent. Tokens made for the agent before
    /// that were not used are void from now on.
    ///
    /// # Errors
    /// When the store cannot be written, or there is no such agent.
    pub async fn create_enrolment(
        &self,
        hash: &[u8; 32],
        agent: &AgentName,
        expires: Timestamp,
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        sqlx::query("DELETE FROM enrolments WHERE agent = $1 AND used_at IS NULL")
            .bind(agent.as_str())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO enrolments (hash, agent, expires_at) VALUES ($1, $2, $3)")
            .bind(&hash[..])
            .bind(agent.as_str())
            .bind(nanos(expires))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Uses up an enrolment token, by its hash. Of any number of callers exactly one gets the
    /// agent's name; `None` says that the token is unknown, used or expired.
    ///
    /// # Errors
    /// When the store cannot be written; the token may then be used up or not.
    pub async fn consume_enrolment(
        &self,
        hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<AgentName>, StoreError> {
        sqlx::query(
            "UPDATE enrolments SET used_at = $2 \
             WHERE hash = $1 AND used_at IS NULL AND expires_at > $2 RETURNING agent",
        )
        .bind(&hash[..])
        .bind(nanos(now))
        .fetch_optional(&self.writer)
        .await?
        .map(|row| {
            Reader {
                what: "enrolment",
                row: &row,
            }
            .parsed("agent")
        })
        .transpose()
    }

    /// Adds an instance of an agent, unless the agent has `limit` enabled ones; returns whether
    /// it was added.
    ///
    /// # Errors
    /// [`StoreError::InstanceExists`] when the id is in use, [`StoreError::KeyInUse`] when the key
    /// is; when the store cannot be written.
    pub async fn insert_instance(
        &self,
        instance: &Instance,
        limit: u32,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let enabled: i64 =
            sqlx::query("SELECT COUNT(*) FROM instances WHERE agent = $1 AND disabled = 0")
                .bind(instance.agent.as_str())
                .fetch_one(&mut *transaction)
                .await?
                .try_get(0)?;
        if enabled >= i64::from(limit) {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO instances (id, agent, public_jwk, thumbprint, enrolled_at, disabled) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(instance.id.to_string())
        .bind(instance.agent.as_str())
        .bind(&instance.public_jwk)
        .bind(&instance.thumbprint)
        .bind(nanos(instance.enrolled_at))
        .bind(i64::from(instance.disabled))
        .execute(&mut *transaction)
        .await
        .map_err(|error| {
            if StoreError::is_duplicate_of(&error, "instances.thumbprint") {
                StoreError::KeyInUse
            } else if StoreError::is_duplicate(&error) {
                StoreError::InstanceExists(instance.id)
            } else {
                error.into()
            }
        })?;
        transaction.commit().await?;
        Ok(true)
    }

    /// One instance.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn instance(&self, id: &InstanceId) -> Result<Option<Instance>, StoreError> {
        sqlx::query("SELECT * FROM instances WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?
            .map(|row| instance(&row))
            .transpose()
    }

    /// The instances of one agent, or of all, in the order in which they enrolled.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn instances(&self, agent: Option<&AgentName>) -> Result<Vec<Instance>, StoreError> {
        let query = match agent {
            Some(agent) => sqlx::query("SELECT * FROM instances WHERE agent = $1 ORDER BY id")
                .bind(agent.as_str()),
            None => sqlx::query("SELECT * FROM instances ORDER BY id"),
        };
        query
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(instance)
            .collect()
    }

    /// Instances of one agent, or of all, the latest enrolled first; those enrolled before
    /// `before`, if it is given.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn instances_page(
        &self,
        agent: Option<&AgentName>,
        before: Option<&InstanceId>,
        limit: u32,
    ) -> Result<Vec<Instance>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM instances WHERE 1 = 1");
        if let Some(agent) = agent {
            query.push(" AND agent = ").push_bind(agent.as_str());
        }
        if let Some(before) = before {
            query.push(" AND id < ").push_bind(before.to_string());
        }
        query
            .push(" ORDER BY id DESC LIMIT ")
            .push_bind(i64::from(limit));
        query
            .build()
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(instance)
            .collect()
    }

    /// How many enabled instances an agent has, and whether a key belongs to any instance.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn enrolled(
        &self,
        agent: &AgentName,
        thumbprint: &str,
    ) -> Result<(u64, bool), StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM instances WHERE agent = $1 AND disabled = 0), \
             (SELECT COUNT(*) FROM instances WHERE thumbprint = $2)",
        )
        .bind(agent.as_str())
        .bind(thumbprint)
        .fetch_one(&self.readers)
        .await?;
        let (enabled, same): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((enabled.unsigned_abs(), same > 0))
    }

    /// Disables an instance for good; returns false when there is no such instance or it was
    /// disabled before. `owed` is kept for the audit log when it is disabled now.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn disable_instance(
        &self,
        id: &InstanceId,
        owed: Option<&[u8]>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query("UPDATE instances SET disabled = 1 WHERE id = $1 AND disabled = 0")
            .bind(id.to_string())
            .execute(&mut *transaction)
            .await?;
        let first = done.rows_affected() > 0;
        if first {
            owe(&mut transaction, owed).await?;
        }
        transaction.commit().await?;
        Ok(first)
    }
}

fn agent(row: &SqliteRow) -> Result<Agent, StoreError> {
    let reader = Reader { what: "agent", row };
    Ok(Agent {
        name: reader.parsed("name")?,
        sponsor: reader.text("sponsor")?,
        segment: reader.maybe_parsed("segment")?,
        lifecycle: lifecycle(&reader)?,
        registered_at: reader.time("registered_at")?,
    })
}

fn lifecycle(reader: &Reader<'_>) -> Result<Lifecycle, StoreError> {
    Lifecycle::parse(&reader.text("lifecycle")?).ok_or_else(|| reader.damaged("unknown lifecycle"))
}

fn instance(row: &SqliteRow) -> Result<Instance, StoreError> {
    let reader = Reader {
        what: "instance",
        row,
    };
    Ok(Instance {
        id: reader.parsed("id")?,
        agent: reader.parsed("agent")?,
        public_jwk: reader.text("public_jwk")?,
        thumbprint: reader.text("thumbprint")?,
        enrolled_at: reader.time("enrolled_at")?,
        disabled: reader.number("disabled")? != 0,
    })
}
