//! Conditions: what an object's controller says of it, in `metav1.Condition`.
//!
//! The rules are those of the API conventions: one condition per type, `lastTransitionTime` moves only when the
//! status does, and `observedGeneration` says which spec it speaks of. A condition whose time moved at every
//! reconcile would wake the controller that wrote it, for ever.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The longest message that the API server accepts, in bytes of UTF-8 here and characters there.
const MAX_MESSAGE: usize = 32_768;

/// What is true of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It can't be told.
    Unknown,
}

impl ConditionStatus {
    /// As objects hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition as it should be, but for the time, which [`set`] knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionUpdate {
    r#type: String,
    status: ConditionStatus,
    reason: String,
    message: String,
    observed_generation: Option<i64>,
}

impl ConditionUpdate {
    /// A condition with an empty message. The reason is one word in `CamelCase`; the API server refuses an empty
    /// one.
    pub fn new(
        r#type: impl Into<String>,
        status: impl Into<ConditionStatus>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            r#type: r#type.into(),
            status: status.into(),
            reason: reason.into(),
            message: String::new(),
            observed_generation: None,
        }
    }

    /// What to tell people. It is cut where the API server would refuse it, past 32768 bytes.
    pub fn message(self, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        }
        Self { message, ..self }
    }

    /// The `metadata.generation` that was looked at.
    pub fn observed_generation(self, generation: Option<i64>) -> Self {
        Self {
            observed_generation: generation,
            ..self
        }
    }
}

/// Sets one condition and says whether that changed anything.
///
/// A new type goes to the end; a known one keeps its place, and its time unless the status changed. The time has
/// whole seconds, as `metav1.Time` does.
pub fn set(conditions: &mut Vec<Condition>, update: ConditionUpdate, now: Timestamp) -> bool {
    let known = conditions
        .iter()
        .position(|condition| condition.type_ == update.r#type);
    let before = known.and_then(|index| conditions.get(index));
    let since = before
        .filter(|before| before.status == update.status.as_str())
        .map(|before| before.last_transition_time.clone());
    let after = Condition {
        last_transition_time: since
            .unwrap_or_else(|| Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
        message: update.message,
        observed_generation: update.observed_generation,
        reason: update.reason,
        status: update.status.as_str().to_owned(),
        type_: update.r#type,
    };
    if before == Some(&after) {
        return false;
    }
    match known.and_then(|index| conditions.get_mut(index)) {
        Some(condition) => *condition = after,
        None => conditions.push(after),
    }
    true
}

/// The condition of a type.
pub fn get<'a>(conditions: &'a [Condition], r#type: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == r#type)
}

/// Whether there is a condition of a type and it holds.
pub fn is_true(conditions: &[Condition], r#type: &str) -> bool {
    has_status(conditions, r#type, ConditionStatus::True)
}

/// Whether there is a condition of a type and it does not hold.
pub fn is_false(conditions: &[Condition], r#type: &str) -> bool {
    has_status(conditions, r#type, ConditionStatus::False)
}

/// Whether a condition holds and speaks of this generation or a later one.
pub fn is_true_at(conditions: &[Condition], r#type: &str, generation: i64) -> bool {
    get(conditions, r#type).is_some_and(|condition| {
        condition.status == ConditionStatus::True.as_str()
            && condition
                .observed_generation
                .is_some_and(|observed| observed >= generation)
    })
}

/// Removes the condition of a type and says whether there was one.
pub fn remove(conditions: &mut Vec<Condition>, r#type: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition.type_ != r#type);
    conditions.len() != before
}

fn has_status(conditions: &[Condition], r#type: &str, status: ConditionStatus) -> bool {
    get(conditions, r#type).is_some_and(|condition| condition.status == status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millisecond(second * 1000 + 250).unwrap()
    }

    fn ready(status: bool, reason: &str) -> ConditionUpdate {
        ConditionUpdate::new("Ready", status, reason)
    }

    fn since(conditions: &[Condition]) -> i64 {
        get(conditions, "Ready")
            .unwrap()
            .last_transition_time
            .0
            .as_second()
    }

    #[test]
    fn time_moves_with_the_status_only() {
        let mut conditions = Vec::new();
        assert!(set(&mut conditions, ready(false, "Starting"), at(1)));
        assert_eq!(
            conditions[0].last_transition_time.0,
            Timestamp::from_second(1).unwrap()
        );
        assert!(!set(&mut conditions, ready(false, "Starting"), at(2)));
        assert!(set(
            &mut conditions,
            ready(false, "Waiting").message("for etcd"),
            at(3)
        ));
        assert_eq!(since(&conditions), 1);
        let update = ready(false, "Waiting")
            .message("for etcd")
            .observed_generation(Some(2));
        assert!(set(&mut conditions, update, at(4)));
        assert_eq!(since(&conditions), 1);
        assert!(set(&mut conditions, ready(true, "Done"), at(5)));
        assert_eq!(since(&conditions), 5);
        let unknown = ConditionUpdate::new("Ready", ConditionStatus::Unknown, "Lost");
        assert!(set(&mut conditions, unknown, at(6)));
        assert_eq!((since(&conditions), conditions.len()), (6, 1));
    }

    #[test]
    fn each_type_has_one_and_keeps_its_place() {
        let mut conditions = Vec::new();
        for r#type in ["A", "B", "C"] {
            set(&mut conditions, ConditionUpdate::new(r#type, true, "Fine"), at(1));
        }
        set(&mut conditions, ConditionUpdate::new("B", false, "Bad"), at(2));
        let types: Vec<_> = conditions
            .iter()
            .map(|condition| condition.type_.as_str())
            .collect();
        assert_eq!(types, ["A", "B", "C"]);
        assert!(remove(&mut conditions, "B") && !remove(&mut conditions, "B"));
        assert_eq!(conditions.len(), 2);
    }

    #[test]
    fn asks_by_type_status_and_generation() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            ready(true, "Done").observed_generation(Some(3)),
            at(1),
        );
        assert!(is_true(&conditions, "Ready") && !is_false(&conditions, "Ready"));
        assert!(!is_true(&conditions, "Other") && !is_false(&conditions, "Other"));
        assert!(is_true_at(&conditions, "Ready", 3) && !is_true_at(&conditions, "Ready", 4));
        set(&mut conditions, ready(true, "Done"), at(1));
        assert!(!is_true_at(&conditions, "Ready", 1));
    }

    #[test]
    fn a_message_is_cut_at_a_character() {
        let long = format!("a{}", "ä".repeat(20_000));
        let mut conditions = Vec::new();
        set(&mut conditions, ready(false, "Broken").message(long), at(1));
        assert_eq!(conditions[0].message.len(), 32_767);
        assert!(conditions[0].message.ends_with('ä'));
    }
}
