//! Who has a name that is taken for ever: kept beside the name, told to those who may know.

use std::fmt;

use domain::ids::StoreId;

/// Who has a name, and in which store: two words beside the name.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub store: StoreId,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.store)
    }
}

impl Holder {
    /// The id in what is kept, for whoever reaches the store `only`, or all. Of names that were taken before stores were kept only
    /// the latter learn the holder.
    pub(crate) fn shown_to(kept: &str, only: Option<StoreId>) -> Option<&str> {
        let (id, store) = kept.split_once(' ').map_or((kept, None), |(id, store)| (id, store.parse().ok()));
        (only.is_none() || store == only).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::Ulid;

    use super::*;

    #[test]
    fn a_holder_is_told_to_those_who_reach_its_store() {
        let store = |n: u8| StoreId(Ulid::from_bytes([n; 16]));
        let kept = Holder { id: "pi_1".to_owned(), store: store(3) }.to_string();
        assert_eq!(Holder::shown_to(&kept, None), Some("pi_1"));
        assert_eq!(Holder::shown_to(&kept, Some(store(3))), Some("pi_1"));
        assert_eq!(Holder::shown_to(&kept, Some(store(4))), None);
        assert_eq!((Holder::shown_to("pi_1", None), Holder::shown_to("pi_1", Some(store(3)))), (Some("pi_1"), None), "of earlier days");
    }
}
