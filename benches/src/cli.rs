//! The command line: which scenarios, how often; and the tables on standard output.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand, builder::PossibleValuesParser};
use millstream_e2e::pressure::Pressure;

use crate::{
    ends::{self, End},
    machine,
    scenario::{self, Bench, Scenario},
    sheet::Sheet,
};

/// Measures Millstream's programs, each as a process of its own, and prints Markdown tables.
#[derive(Debug, Parser)]
#[command(
    name = "millstream-benches",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Figures are medians of the runs, with the lowest and the highest. Progress goes to standard error.
benches/RESULTS.md says what each figure includes."
)]
struct Cli {
    /// The scenarios to run; all of them but `soak` when none is named.
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(scenario::ALL.iter().map(|one| one.name)))]
    names: Vec<String>,
    /// How often each is run.
    #[arg(long, value_name = "N", env = "BENCH_RUNS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Short runs, to see that everything works: the figures mean little.
    #[arg(long)]
    short: bool,
    /// Where plots are written; short runs write none unless they are told where.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Plays one end of a bare connection, for a scenario that started it.
    #[command(hide = true, subcommand)]
    End(End),
}

/// Runs what the process's arguments name. It fails when a scenario did; the others are run all the same.
///
/// # Errors
/// When standard output or the folder for what is made meanwhile is not to be had.
pub fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(Part::End(end)) = &cli.part {
        ends::play(end)?;
        return Ok(ExitCode::SUCCESS);
    }
    if cli.list {
        for scenario in scenario::ALL {
            writeln!(io::stdout(), "{:10}  {}", scenario.name, scenario.what)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let bench = Bench::new(cli.runs, cli.short, cli.plots)?;
    say(&machine::table())?;
    let is_wanted = |scenario: &&Scenario| {
        if cli.names.is_empty() {
            scenario.name != scenario::LONG
        } else {
            cli.names.iter().any(|name| name == scenario.name)
        }
    };
    let mut failed = Vec::new();
    for scenario in scenario::ALL.iter().filter(is_wanted) {
        bench.progress(&format!("{}: {}", scenario.name, scenario.what));
        let pressure = Pressure::begin();
        let mut sheet = Sheet::new(scenario.what);
        let outcome = (scenario.run)(&bench, &mut sheet);
        sheet.pressure = pressure.percent();
        match outcome {
            Ok(()) => say(&sheet.to_string())?,
            Err(error) => {
                bench.progress(&format!("{} FAILED: {error:#}", scenario.name));
                failed.push(scenario.name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bench.progress(&format!("not measured: {}", failed.join(", ")));
    Ok(ExitCode::FAILURE)
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_knows_the_scenarios() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["benches", "open", "part", "--runs", "5"]).unwrap();
        assert_eq!((cli.names, cli.runs), (vec!["open".to_owned(), "part".to_owned()], 5));
        assert!(Cli::try_parse_from(["benches", "nonsense"]).is_err());
        assert!(matches!(
            Cli::try_parse_from(["benches", "end", "source"]).unwrap().part,
            Some(Part::End(End::Source { .. }))
        ));
    }
}
