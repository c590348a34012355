//! Chain ids: what a layer stands on, as one digest (image-spec config.md, "Layer ChainID").

use crate::image::stream::sha256;

/// The digest of nothing: the chain id of no layers, and the DiffID of a layer where an image has none.
pub(in crate::image) fn nothing() -> String {
    format!("sha256:{}", sha256(b""))
}

/// For each layer the chain id of those below; for the lowest the digest of nothing.
pub(in crate::image) fn chains(diff_ids: &[String]) -> Vec<String> {
    let mut chains = vec![nothing()];
    for diff_id in diff_ids {
        let chain = match chains.last() {
            Some(below) if chains.len() > 1 => {
                format!("sha256:{}", sha256(format!("{below} {diff_id}").as_bytes()))
            }
            _ => diff_id.clone(),
        };
        chains.push(chain);
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let chains = chains(&[digest("a"), digest("b"), digest("c")]);
        assert_eq!(chains[0], format!("sha256:{}", sha256(b"")));
        assert_eq!(chains[1], digest("a"));
        let second = format!(
            "sha256:{}",
            sha256(format!("{} {}", digest("a"), digest("b")).as_bytes())
        );
        assert_eq!(chains[2], second);
        let third = format!(
            "sha256:{}",
            sha256(format!("{second} {}", digest("c")).as_bytes())
        );
        assert_eq!(chains[3], third);
    }
}
