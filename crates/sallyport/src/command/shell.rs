//! `sallyport completion` and `sallyport man`: what shells and `man` want to know.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::failure::Failure;

/// Arguments of `sallyport completion`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport completion bash > ~/.local/share/bash-completion/completions/sallyport
  sallyport completion zsh > \"${fpath[1]}/_sallyport\"
  sallyport completion fish > ~/.config/fish/completions/sallyport.fish")]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Arguments of `sallyport man`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport man | man -l -
  sallyport man --dir /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write one page for each command into this folder, instead of the main page to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints a completion script.
pub(crate) fn completion(args: &CompletionArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sallyport", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(())
}

/// Prints or writes manual pages.
pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    match &args.dir {
        Some(dir) => std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
            .map_err(|error| Failure::new(format!("cannot write into {}: {error}", dir.display()))),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            std::io::Write::write_all(&mut std::io::stdout(), &page)?;
            Ok(())
        }
    }
}
