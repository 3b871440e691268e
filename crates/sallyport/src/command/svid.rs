//! `sallyport agent svid`: a short-lived certificate for this machine's instance, for programs that show one
//! themselves. The key is made here for each certificate, and stays here.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control::api::Svid;
use identity::svid::Request;
use jiff::Timestamp;
use serde_json::json;

use crate::connect::authority::Authority;
use crate::connect::http::{self, Http};
use crate::connect::instance::InstanceFolder;
use crate::failure::Failure;
use crate::output::{self, GOOD, instant, paint};

/// The private key, readable by its owner only.
const KEY: &str = "svid.key";
/// The certificate.
const CERTIFICATE: &str = "svid.pem";
/// The certificates of the trust domain's authorities.
const BUNDLE: &str = "bundle.pem";
/// How long to wait after a renewal that failed.
const RETRY: Duration = Duration::from_secs(10);

/// Arguments of `sallyport agent svid`.
#[derive(clap::Args)]
#[command(after_help = "\
Writes svid.key, svid.pem and bundle.pem into the folder, and replaces those that are there.

Examples:
  sallyport agent svid --out ./svid
  sallyport agent svid --out ./svid --keep-renewed &
  psql \"host=gateway.example.org port=8602 dbname=crm user=TASK sslmode=verify-full \\
        sslcert=./svid/svid.pem sslkey=./svid/svid.key\"")]
pub(crate) struct Args {
    /// The folder to write the files into; it is made if there is none
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Stay, and renew the certificate whenever half of its life is over
    #[arg(long)]
    keep_renewed: bool,
    /// The instance's folder, by default ~/.sallyport/instance
    #[arg(long, value_name = "DIR", env = "SALLYPORT_INSTANCE")]
    instance: Option<PathBuf>,
    /// Trust the certification authorities in this PEM file, instead of the public ones
    #[arg(long, value_name = "FILE", env = "SALLYPORT_CA_FILE")]
    ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (about, key) = InstanceFolder::open_named(args.instance.as_deref())?;
    http::check_url("the control listener", &about.control)?;
    let authority = Authority::new(Http::new(args.ca.as_deref())?, about, key);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the client cannot be started: {error}")))?;
    runtime.block_on(async {
        let mut svid = renew(args, &authority).await?;
        if !args.keep_renewed {
            return Ok(());
        }
        loop {
            tokio::time::sleep(half_of_life(&svid, Timestamp::now())).await;
            svid = loop {
                match renew(args, &authority).await {
                    Ok(svid) => break svid,
                    Err(failure) if Timestamp::now() < svid.expires_at => {
                        output::note(format_args!("the certificate was not renewed: {failure}"));
                        tokio::time::sleep(RETRY).await;
                    }
                    Err(failure) => return Err(failure),
                }
            };
        }
    })
}

/// Gets a certificate, writes the files and says so.
async fn renew(args: &Args, authority: &Authority) -> Result<Svid, Failure> {
    let (request, svid) = authority.svid().await?;
    write(&args.out, &request, &svid)?;
    if args.json {
        output::json_line(&json!({
            "spiffe_id": svid.spiffe_id,
            "instance": svid.instance,
            "serial": svid.serial,
            "expires_at": svid.expires_at,
            "certificate": args.out.join(CERTIFICATE),
            "key": args.out.join(KEY),
            "bundle": args.out.join(BUNDLE),
        }))?;
    } else {
        output::line(format_args!(
            "{} for {}, good until {}, in {}",
            paint(GOOD, "certificate"),
            svid.spiffe_id,
            instant(svid.expires_at),
            args.out.display()
        ))?;
    }
    Ok(svid)
}

/// How long it is until half of what is left of a certificate's life is over.
fn half_of_life(svid: &Svid, now: Timestamp) -> Duration {
    let left = svid.expires_at.duration_since(now);
    Duration::try_from(left).map_or(Duration::ZERO, |left| left / 2)
}

/// Writes the files, each as a whole. The key comes first: for a moment there may be a key whose certificate is
/// not there yet, but never a certificate without its key.
fn write(dir: &Path, request: &Request, svid: &Svid) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!(
            "the certificate cannot be written into {}: {error}",
            dir.display()
        ))
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| failed(&error))?;
    let new = |name: &str| dir.join(format!("{name}.new"));
    for name in [KEY, CERTIFICATE, BUNDLE] {
        match std::fs::remove_file(new(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&error));
            }
            _ => {}
        }
    }
    request
        .save_key(&new(KEY))
        .map_err(|error| failed(&error))?;
    std::fs::write(new(CERTIFICATE), &svid.certificate).map_err(|error| failed(&error))?;
    std::fs::write(new(BUNDLE), &svid.bundle).map_err(|error| failed(&error))?;
    for name in [KEY, CERTIFICATE, BUNDLE] {
        std::fs::rename(new(name), dir.join(name)).map_err(|error| failed(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn svid(certificate: &str) -> Svid {
        Svid {
            spiffe_id: "spiffe://example.org/agent/a".to_owned(),
            instance: model::InstanceId::new(Timestamp::UNIX_EPOCH, [1; 10]),
            serial: String::new(),
            thumbprint: String::new(),
            expires_at: Timestamp::from_second(3_600).unwrap(),
            certificate: certificate.to_owned(),
            bundle: "BUNDLE".to_owned(),
        }
    }

    #[test]
    fn files_are_replaced_and_the_key_is_its_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("svid");
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        write(&dir, &Request::new().unwrap(), &svid("ONE")).unwrap();
        let first = read(KEY);
        write(&dir, &Request::new().unwrap(), &svid("TWO")).unwrap();
        assert_ne!(read(KEY), first);
        assert_eq!(
            (read(CERTIFICATE), read(BUNDLE)),
            ("TWO".into(), "BUNDLE".into())
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join(KEY))), (0o700, 0o600));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3);
    }

    #[test]
    fn it_is_renewed_when_half_of_its_life_is_over() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(half_of_life(&svid(""), at(0)), Duration::from_secs(1_800));
        assert_eq!(half_of_life(&svid(""), at(4_000)), Duration::ZERO);
    }
}
