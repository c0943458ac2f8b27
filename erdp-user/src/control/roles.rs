//! Who may ask and who may order. Whoever may open the socket may ask; with `control-orders` only root, the daemon's own user and the
//! members of that group may order.

use crate::kernel::fd_passing::own_user;

/// Who may order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// The group whose members may, besides root; `None`: everybody who may open the socket.
    pub orders: Option<String>,
}

impl Roles {
    /// Whether a process of this user and these groups may order; or why not, with the remedy. `number_of` finds a group's number.
    pub fn may_order(
        &self,
        user: u32,
        groups: &[u32],
        number_of: impl FnOnce(&str) -> Option<u32>,
    ) -> Result<(), String> {
        let Some(name) = &self.orders else { return Ok(()) };
        if user == 0 || user == own_user() {
            return Ok(());
        }
        match number_of(name) {
            Some(number) if groups.contains(&number) => Ok(()),
            Some(_) => Err(format!(
                "user {user} may ask and not order: only root and the group {name} may (`control-orders` in the configuration); nothing is \
                 changed"
            )),
            None => Err(format!(
                "only root may order: there is no group {name}, which `control-orders` in the configuration names; nothing is changed"
            )),
        }
    }
}

/// A group's number, as the machine's databases have it.
pub fn group_number(name: &str) -> Option<u32> {
    nix::unistd::Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A user that is neither root nor this process's own.
    const OTHER: u32 = 4_000_000;

    #[test]
    fn without_the_key_whoever_may_open_the_socket_may_order() {
        assert_eq!(Roles::default().may_order(OTHER, &[], |_| None), Ok(()));
    }

    #[test]
    fn with_the_key_only_root_and_the_groups_members_may_order() {
        let roles = Roles { orders: Some("netadmin".into()) };
        let number = |_: &str| Some(77);
        assert_eq!(roles.may_order(OTHER, &[5, 77], number), Ok(()));
        assert_eq!(roles.may_order(0, &[], number), Ok(()));
        let refused = roles.may_order(OTHER, &[5], number).unwrap_err();
        assert!(refused.contains("group netadmin") && refused.contains("control-orders"), "{refused}");
        let refused = roles.may_order(OTHER, &[5, 77], |_| None).unwrap_err();
        assert!(refused.contains("no group netadmin"), "{refused}");
        assert_eq!(roles.may_order(0, &[], |_| None), Ok(()));
    }

    #[test]
    fn the_group_of_root_has_a_number() {
        assert_eq!(group_number("root"), Some(0));
        assert_eq!(group_number("no-such-group-here"), None);
    }
}
