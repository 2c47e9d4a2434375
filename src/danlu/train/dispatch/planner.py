"""Which plan each group of a study is trained by: the one kept from before, or a new one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from danlu.data import Data
from danlu.errors import RunError, stopped
from danlu.recipe.build import build_model
from danlu.runs import Study
from danlu.train.batches import BatchStream
from danlu.train.dispatch.choose import Resources, choose_plan
from danlu.train.dispatch.chunk import Pruner, population_maker
from danlu.train.dispatch.cluster import Cluster
from danlu.train.dispatch.listener import StudyListener
from danlu.train.dispatch.plan import HERE, ON_RAY, Plan
from danlu.train.dispatch.workers import can_fork
from danlu.train.engine.stopping import StopRequest

# Members of a chunk for each slot, where slots get free one after another…
_MEMBERS_PER_SLOT = 8
# …as long as the final weights of a chunk, which wait for its end, are no more bytes.
_MOST_FINAL_BYTES = 1 << 28


@dataclass(frozen=True)
class Group:
    """Members that share a structure; number: of the group in the study."""

    number: int
    members: list[int]


class Planner:
    """Plans the groups of a study, and keeps the plans in its folder.

    groups_in_turn: whether many groups train at once, each on one core.
    """

    def __init__(
        self,
        study: Study,
        data: Data,
        device: torch.device,
        listener: StudyListener,
        stop: StopRequest,
        pruner: Pruner | None,
        cluster: Cluster | None,
    ) -> None:
        self.study = study
        self.data = data
        self.device = device
        self.listener = listener
        self.stop = stop
        self.pruner = pruner
        self.cluster = cluster
        self.kept: list[dict[str, Any]] = study.info["plans"]
        self.planning: dict[int, Any] = {}  # on a cluster: pending plans by group
        self.groups_in_turn = False

    @property
    def processes(self) -> int:
        """How many processes may train side by side.

        A pruner sees every member, so those it judges are not spread over processes.
        """
        may_fork = can_fork() and not self.pruner and self.device.type == "cpu"
        return torch.get_num_threads() if may_fork else 1

    def groups_on_threads(self) -> set[int]:
        """Return the groups that began on several threads."""
        return {kept["group"] for kept in self.kept if kept["threads"] > 1}

    def start_planning(self, groups: Sequence[Group]) -> None:
        """On a cluster, have all groups that lack a plan planned at once."""
        if not self.cluster:
            return
        for group in groups:
            if self._kept_plan(group) is None:
                self.planning[group.number] = self.cluster.start_planning(
                    self.study, group.members, self.data, self.device.type
                )

    def cancel_planning(self) -> None:
        """Call off what is being planned on a cluster."""
        if self.cluster:
            self.cluster.cancel(self.planning.values())

    def plan(self, group: Group) -> Plan:
        """Return the plan kept from before, or a new one.

        A resumed study goes on in the way it began, also elsewhere. Raises Interrupted.
        """
        kept = self._kept_plan(group)
        if kept is not None:
            return kept
        if self.cluster:
            plan = self._plan_of_cluster(group)
        else:
            plan = self._new_plan(group)
        plan.chunk_size = self._chunk_size(group.members, plan)
        self._keep(group, plan)
        return plan

    def use_smaller_chunks(self, left: Group) -> None:
        """Plan smaller populations for what is left of a group, after memory ran out.

        Raises RunError where a single network is too large.
        """
        plan = self.plan(left)
        if plan.population_size > 1:
            plan.population_size //= 2
        elif plan.workers > 1 and not self.cluster:
            plan.exclusive = True
            plan.workers = 1
        else:
            raise RunError(
                "memory does not suffice for a single network; try a smaller batch_size or model"
            )
        plan.reason = "memory ran out with more at once"
        plan.is_surprising = True
        plan.seconds_per_step = {}
        plan.chunk_size = self._chunk_size(left.members, plan)
        self._keep(left, plan)

    def _plan_of_cluster(self, group: Group) -> Plan:
        assert self.cluster is not None
        pending = self.planning.pop(group.number)
        plan = self.cluster.wait_for_plan(pending, lambda: self.stop.asked)
        if plan is None:
            self.cancel_planning()
            raise stopped(self.study.way_on)
        return plan

    def _new_plan(self, group: Group) -> Plan:
        recipes = [self.study.recipes[i] for i in group.members]
        batches = BatchStream(recipes, self.data, self.device)
        make = population_maker(self.data, batches, self.device)
        if self.groups_in_turn:
            resources = Resources(cores=1, processes=False, tenants=self.processes)
        else:
            resources = Resources(torch.get_num_threads(), processes=self.processes > 1)
        plan = choose_plan(recipes, make, self.data, self.device, resources)
        if self.groups_in_turn:
            plan.workers = self.processes
        return plan

    def _kept_plan(self, group: Group) -> Plan | None:
        """Return the plan from before, or None.

        Where members were added since, one for less than half as many no longer fits.
        """
        plans = {kept["group"]: kept for kept in self.kept}
        kept = plans.get(group.number)
        if kept is None or len(group.members) > 2 * kept["members"]:
            return None
        plan = Plan.from_json(kept)
        plan.chunk_size = plan.chunk_size or self._chunk_size(group.members, plan)
        where = ON_RAY if self.cluster else HERE
        if plan.where != where:
            # The same chunks on one core each give the same numbers.
            plan.where = where
            plan.threads = 1
            plan.workers = self.processes
            if self.cluster:
                plan.workers = self.cluster.places(self.device.type)
        elif self.groups_in_turn and not plan.exclusive:
            plan.workers = self.processes
        return plan

    def _keep(self, group: Group, plan: Plan) -> None:
        self.listener.plan(group.members, plan)
        self.kept = [kept for kept in self.kept if kept["group"] != group.number]
        self.kept.append(plan.to_json(group.number))
        self.study.sealed.update(plans=self.kept)

    def _chunk_size(self, members: list[int], plan: Plan) -> int:
        """Return how many members a chunk has.

        As many as train together, or several times that where they do not all end at once. Kept in
        the plan: a resumed study has the same chunks, and so finds their checkpoints.
        """
        size = plan.population_size
        if size == 1 and plan.workers > 1 and not self.cluster:
            # A process of its own for each would warm up anew.
            of_half = plan.members // (2 * plan.workers)
            return max(1, min(_MEMBERS_PER_SLOT, of_half))
        recipes = [self.study.recipes[i] for i in members]
        same_epochs = len({recipe.epochs for recipe in recipes}) == 1
        any_patience = any(recipe.early_stopping.patience for recipe in recipes)
        end_together = same_epochs and not any_patience and not self.pruner
        # Nobody's slot gets free before all are done.
        if size == 1 or end_together:
            return size
        # Only its size counts; the weights are thrown away.
        model = build_model(recipes[0], self.study.schema)
        bytes_of_each = sum(p.nbytes for p in model.parameters())
        per_slot = _MOST_FINAL_BYTES // max(1, bytes_of_each * size)
        most = size * min(_MEMBERS_PER_SLOT, per_slot)
        of_worker = math.ceil(plan.members / plan.workers)
        return max(size, min(most, of_worker))
