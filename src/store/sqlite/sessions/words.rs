//! Keywords: which sessions hold one of them. Three letters each are looked up in an index, and what is found is
//! compared in full. Of a keyword's many triples the rarest serve, as a sample of the sessions tells: the index is as
//! slow for `com` as it is fast for `zqj`.

use serde_json::Value;
use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{QueryBuilder, query_as, query_scalar};

use crate::store::SessionQuery;

/// How many places of the table are looked at for a sample, and how many sessions at each.
const PLACES: i64 = 16;
const SESSIONS: i64 = 16;
/// How many triples are looked up of one keyword.
const TRIPLES: usize = 3;

/// The keywords of a search.
#[derive(Debug, Default)]
pub(super) struct Words(Vec<Word>);

#[derive(Debug)]
struct Word {
    text: String,
    /// What to ask the index of letters; `None` for a keyword too short for it, or in every session.
    lookup: Option<String>,
}

impl Words {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keywords of `query`, with the triples by which each is best found.
    pub(super) async fn of(connection: &mut SqliteConnection, query: &SessionQuery) -> Result<Self, sqlx::Error> {
        let keywords = query.folded();
        if keywords.is_empty() {
            return Ok(Self::default());
        }
        let sample = sample(connection).await?;
        let word = |text: String| Word { lookup: lookup(&text, &sample), text };
        Ok(Self(keywords.into_iter().map(word).collect()))
    }

    /// Adds the SQL that tells of a row of `sessions` whether it holds a keyword.
    pub(super) fn push_test(&self, sql: &mut QueryBuilder<Sqlite>) {
        sql.push("(agent IN (SELECT agents.number FROM agents WHERE ");
        self.push_any(sql, "folded");
        sql.push(") OR (SELECT ");
        self.push_any(sql, "text");
        sql.push(" FROM words WHERE words.number = sessions.number))");
    }

    /// Whether one of them cannot be looked up, so that all sessions are compared with it.
    pub(super) fn are_common(&self) -> bool {
        self.0.iter().any(|word| word.lookup.is_none())
    }

    /// Adds the SQL that counts the sessions with a keyword by comparing all: those with one in their words, and those
    /// that have it in their user agent alone.
    pub(super) fn push_count(&self, sql: &mut QueryBuilder<Sqlite>) {
        sql.push("(SELECT count(*) FROM words WHERE ");
        self.push_any(sql, "text");
        sql.push(") + (SELECT count(*) FROM sessions INDEXED BY sessions_by_agent WHERE agent IN ");
        sql.push("(SELECT number FROM agents WHERE ");
        self.push_any(sql, "folded");
        sql.push(") AND NOT ifnull((SELECT ");
        self.push_any(sql, "text");
        sql.push(" FROM words WHERE words.number = sessions.number), FALSE))");
    }

    fn push_any(&self, sql: &mut QueryBuilder<Sqlite>, column: &'static str) {
        sql.push("(FALSE");
        for Word { text, .. } in &self.0 {
            sql.push(" OR instr(").push(column).push(", ").push_bind(text.clone()).push(")");
        }
        sql.push(")");
    }

    /// Adds the SQL that lists the numbers of the sessions with a keyword; with `ALL` one may come more than once, but
    /// the first come at once.
    pub(super) fn push_numbers(&self, sql: &mut QueryBuilder<Sqlite>, all: bool) {
        let union = if all { " UNION ALL " } else { " UNION " };
        for (at, Word { text, lookup }) in self.0.iter().enumerate() {
            sql.push(if at == 0 { "" } else { union });
            match lookup {
                Some(lookup) => {
                    sql.push("SELECT words.number FROM grams CROSS JOIN words ON words.number = grams.rowid ");
                    sql.push("WHERE grams MATCH ")
                        .push_bind(lookup.clone())
                        .push(" AND instr(words.text, ")
                        .push_bind(text.clone())
                        .push(")");
                }
                None => {
                    sql.push("SELECT number FROM words WHERE instr(text, ").push_bind(text.clone()).push(")");
                }
            }
            sql.push(union).push("SELECT number FROM sessions INDEXED BY sessions_by_agent WHERE agent IN ");
            sql.push("(SELECT number FROM agents WHERE instr(folded, ").push_bind(text.clone()).push("))");
        }
    }
}

/// The words of some sessions from all over the table.
async fn sample(connection: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    const SAMPLE: &str = "SELECT text FROM json_each(?1) AS place CROSS JOIN words \
        WHERE words.number BETWEEN place.value AND place.value + ?2";
    let ends: (Option<i64>, Option<i64>) =
        query_as("SELECT (SELECT min(number) FROM words), (SELECT max(number) FROM words)")
            .fetch_one(&mut *connection)
            .await?;
    let (Some(first), Some(last)) = ends else { return Ok(Vec::new()) };
    let places: Value = (0..PLACES).map(|place| first + (last - first) / PLACES * place).collect();
    query_scalar(SAMPLE).bind(places.to_string()).bind(SESSIONS - 1).fetch_all(connection).await
}

/// The rarest triples of a keyword, as the index of letters is asked for them.
fn lookup(keyword: &str, sample: &[String]) -> Option<String> {
    let letters: Vec<char> = keyword.chars().collect();
    let mut triples: Vec<String> = letters.windows(3).map(|triple| triple.iter().collect()).collect();
    triples.sort_unstable();
    triples.dedup();
    let times = |triple: &String| sample.iter().filter(|text| text.contains(triple)).count();
    let mut counted: Vec<(usize, String)> = triples.into_iter().map(|triple| (times(&triple), triple)).collect();
    counted.sort_unstable();
    let (rarest, _) = counted.first()?;
    let in_every = *rarest == sample.len() && !sample.is_empty();
    let quoted = counted.iter().take(TRIPLES).map(|(_, triple)| format!("\"{}\"", triple.replace('"', "\"\"")));
    (!in_every).then(|| quoted.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_triples_are_looked_up_and_none_where_all_are_common() {
        let sample: Vec<String> = ["ann@example.com", "ben@example.com"].map(String::from).to_vec();
        assert_eq!(lookup("cid@example.com", &sample).as_deref(), Some(r#""cid" "d@e" "id@""#));
        assert_eq!(lookup("example.com", &sample), None);
        assert_eq!(lookup("ab", &sample), None);
        assert_eq!(lookup("a\"b", &sample).as_deref(), Some(r#""a""b""#));
    }
}
