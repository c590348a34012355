//! A container's cgroup as a unit of systemd: a transient scope (systemd.scope(5), org.freedesktop.systemd1(5)). systemd makes
//! the cgroup and knows the limits that it has words for, so that it does not undo them; the rest is written to the cgroup by
//! us, which `Delegate=yes` allows.

mod annotations;
mod bus;
mod properties;
mod scope;

pub(crate) use annotations::asked;
pub(crate) use properties::Property;
pub(crate) use scope::Scope;
