from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from generation.engines.values import EngineError, adapter_hash, weights_hash
from generation.models import Policy
from generation.stores import single
from generation.stores.cache import marked
from generation.stores.folders import publish
from generation.stores.manifest import read
from generation.stores.places import apart, is_kept, key_of, store


class Command(BaseCommand):
    help = (
        "Put the policies and exports that lie on this machine into the model store (STORYLOOP_MODEL_STORE): once, "
        "when an installation gets one, or after a restore. What is there whole, and the same, is left alone; given "
        "again it goes on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--again", action="store_true", help="write what is there already, too: it is damaged")

    def handle(self, *args: Any, again: bool, **options: Any) -> None:
        if not apart():
            raise CommandError("STORYLOOP_MODEL_STORE is not set: there is no store apart from the folders here.")
        try:
            store().begin()
        except OSError as error:
            raise CommandError(f"{settings.MODEL_STORE} cannot be written: {error}") from error
        lacking = []
        for policy in Policy.objects.with_weights():
            try:
                done = self._policy(policy, again)
            except (EngineError, OSError) as error:
                raise CommandError(f"{policy.name}: {error}") from error
            if not done:
                lacking.append(policy.name)
        self._exports()
        if lacking:
            raise CommandError(
                f"Not in the store, and not whole on this machine: {', '.join(lacking)}. Give this command on the "
                "machine that has them, or put their files back from a backup."
            )

    def _policy(self, policy: Policy, again: bool) -> bool:
        """Whether all of it is in the store now."""
        path = Path(policy.path)
        place = path if is_kept(path) else Path(settings.MODEL_DIR) / f"base-{policy.weights_hash[:24]}"
        adapter = Path(policy.adapter_path) if policy.adapter_path else None
        done = self._folder(place, path, again, lambda: weights_hash(path) == policy.weights_hash)
        if adapter and is_kept(adapter):
            known = policy.adapter_hash
            done &= self._folder(adapter, adapter, again, lambda: not known or adapter_hash(adapter) == known)
        if done and str(place) != policy.path:
            policy.path = str(place)
        if done:
            policy.save(update_fields=["path", "adapter_path"])  # relative from now on
        return done

    def _folder(self, place: Path, source: Path, again: bool, is_whole: Any) -> bool:
        there = read(key_of(place))
        if there and not again and place.is_dir() and marked(place) == there:
            self.stdout.write(f"{place.name}: there already")
            return True
        if not source.is_dir() or not is_whole():
            if there:
                self.stdout.write(f"{place.name}: there already")
            return bool(there)
        new = publish(place, source=source, again=again)
        self.stdout.write(f"{source}: published" if new else f"{place.name}: there already")
        return True

    def _exports(self) -> None:
        """Exports and frozen pairs; what a machine is writing has a name of its own."""
        folder = Path(settings.EXPORT_DIR)
        found = [path for path in sorted(folder.glob("*")) if path.is_file() and not path.name.startswith(".")]
        try:
            for path in found:
                single.put(path)
        except (EngineError, OSError) as error:
            raise CommandError(f"{folder}: {error}") from error
        self.stdout.write(f"{folder}: {len(found)} files published")
