//! `image pull`: decides, meets the registry, imports what it serves, and takes away what was fetched.

use runtime::cli::{ImagePullArgs, Outcome, import_as_caller};
use runtime::config::{self, Config};
use runtime::image::{ImportRequest, Platform, Progress, import_remote, inspect, parts::Parts};
use runtime::rootless;
use shim::Result;
use std::path::Path;
use std::time::Duration;

use crate::plan::Plan;
use crate::registry::Registry;

/// How long parts of blobs are kept for a pull that goes on with them.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Pulls an image.
pub(crate) fn pull(args: ImagePullArgs) -> Result<Outcome> {
    rootless::refuse_elevated()?;
    let config = Config::load(Path::new(config::PATH))?;
    let dirs = config.dirs(&args.dirs)?;
    let plan = Plan::make(&args, &config.pull)?;
    let (base, data) = (dirs.base.clone(), dirs.data.clone());
    let mut request = ImportRequest::new(&args.reference, plan.id.clone(), base, data);
    request.limits = request.limits.with(&config.import).with(&args.limits);
    request.flat = args.flat;
    request.replace = args.replace;
    request.platform = args.platform.unwrap_or_else(Platform::host);
    let progress = Progress::new(args.progress);
    request.progress = progress.clone();
    // The data directory is made where its files belong to whom the import makes them belong.
    import_as_caller(request, args.squash, move |request| {
        let parts = Parts::open(&request.data)?;
        parts.remove_older(KEPT)?;
        let registry = Registry::new(plan, parts, progress)?;
        let imported = import_remote(request, &registry);
        registry.clear()?;
        let imported = imported?;
        let text = match args.json {
            true => inspect(&dirs, &request.id)?.json()?,
            false => String::new(),
        };
        Ok((text, vec![imported]))
    })
}
