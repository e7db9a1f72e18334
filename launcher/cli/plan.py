"""`launcher plan RECIPE [key=value …]`: what exactly would happen."""

from __future__ import annotations

import argparse
from pathlib import Path

from launcher.cli.options import (
    json_argument,
    overrides,
    print_json,
    print_warnings,
    recipe_arguments,
    refuse_if_strict,
    require_tasks,
    strict_argument,
    then_arguments,
    then_overrides,
)
from launcher.errors import ExitCode, Problem, UserError
from launcher.remember import remembering
from launcher.rundir import RunDir
from launcher.runplan import RunPlan


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    recipe_arguments(parser)
    then_arguments(parser)
    strict_argument(parser)
    form = parser.add_mutually_exclusive_group()
    json_argument(form)  # type: ignore[arg-type]
    form.add_argument("--sbatch", action="store_true", help="print the batch script")
    form.add_argument("--cfg", action="store_true", help="print the resolved config")
    form.add_argument("--fit", action="store_true", help="print which numbers of nodes it fits on, and how")


def run(options: argparse.Namespace) -> ExitCode:
    """Print the plan in the form asked for."""
    options.overrides = [*options.overrides, *then_overrides(options)]
    with remembering():
        return _printed(options)


def _printed(options: argparse.Namespace) -> ExitCode:
    plan = planned(options)
    require_tasks(plan, options)
    refuse_if_strict(plan.warnings, options)
    if options.sbatch or options.cfg or options.fit:
        print_warnings(plan.warnings)
    if options.json:
        print_json(plan.to_json())
    elif options.sbatch:
        print(batch_script(plan), end="")
    elif options.cfg:
        from launcher.config.compose import as_yaml

        print(as_yaml(plan.config), end="")
    elif options.fit:
        print(fitting(plan))
    else:
        from launcher.cli.page import page

        print(page(plan))
    return ExitCode.DONE


def planned(options: argparse.Namespace) -> RunPlan:
    """The plan of what was typed."""
    from launcher.plan.build import Request, plan_request

    return plan_request(
        Request(
            recipe=options.recipe,
            overrides=overrides(options),
            config_dir=options.config_dir,
            work_dir=Path.cwd(),
        )
    )


def fitting(plan: RunPlan) -> str:
    """What the run fits on, as a table."""
    from launcher.cli.fit_page import fit_page
    from launcher.models.shape import model_shape
    from launcher.plan.fit import table
    from launcher.plan.frozen import frozen_parameters
    from launcher.plan.peaks import earlier_peaks

    shape = model_shape(plan.config.model)
    assert not isinstance(shape, Problem), "there is a plan"
    frozen = frozen_parameters(plan.config, shape)
    assert not isinstance(frozen, Problem), "there is a plan"
    return fit_page(plan, table(plan.config, shape, frozen, earlier_peaks(plan.config)))


def batch_script(plan: RunPlan) -> str:
    """The text that sbatch would get; UserError where no Slurm is involved."""
    if plan.slurm is None:
        raise UserError(
            Problem(
                where="--sbatch",
                message=f"cluster.kind is {plan.config.cluster.kind.value}, which has no batch script",
                remedy="write cluster=slurm, or a profile of your own",
            )
        )
    from launcher.cluster.slurm import script

    return script(plan, RunDir(Path(plan.run_dir)).submissions / "0001")
