"""A repository at the commit that was added: resumed, compared with the hub's digests, and checked when it is used."""

from dataclasses import replace

import pytest
from tests.models.hub_server import SHA, Hub

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.models.directory import is_present, materialise, pull
from tunesmith.models.hub import look_up
from tunesmith.models.registry import BaseModel, HubRepository
from tunesmith.models.seal import _whole
from tunesmith.settings import Settings

REPOSITORY = "owner/name"
SOURCE = HubRepository(REPOSITORY, SHA)
BASE = BaseModel("mine", SOURCE, None)
WEIGHTS = "model.safetensors"
CHUNK = 4  # bytes, instead of 10 MB


def test_a_pinned_repository_is_found_by_its_commit(hub: Hub, settings: Settings) -> None:
    assert not is_present(BASE, settings)
    folder = pull(BASE, settings)
    assert folder.name == SHA
    assert is_present(BASE, settings)
    hub.refusals[REPOSITORY] = (500, "")
    assert materialise(BASE, settings) == folder
    other = replace(BASE, source=HubRepository(REPOSITORY, "f" * 40))
    assert not is_present(other, settings)


def test_a_download_that_was_cut_goes_on_where_it_stopped(
    hub: Hub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits between its own attempts
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", CHUNK)  # what is less than a chunk is lost
    hub.cuts = 2
    whole = len(hub.files[REPOSITORY][WEIGHTS])
    folder = pull(BASE, settings)
    assert (folder / WEIGHTS).read_bytes() == hub.files[REPOSITORY][WEIGHTS]
    assert 0 <= sum(sent for _, _, sent in hub.served) - whole < 2 * CHUNK  # no more of it came twice
    starts = [first for _, first, _ in hub.served]
    assert starts[0] == 0
    assert [whole // 2 - start < CHUNK for start in starts[1:]] == [True, True]


@pytest.mark.parametrize("file", [WEIGHTS, "tokenizer.json"])
def test_a_file_with_other_bytes_than_are_listed_is_refused_and_not_kept(
    hub: Hub, settings: Settings, file: str
) -> None:
    data = hub.files[REPOSITORY][file]
    hub.changed[file] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ServerFault, match=rf"{file} of owner/name came twice with other bytes .* HF_ENDPOINT"):
        pull(BASE, settings)
    assert hub.fetched.count(file) == 2
    assert not is_present(BASE, settings)
    hub.changed.clear()
    assert (pull(BASE, settings) / file).read_bytes() == data


def test_a_file_that_changes_later_is_refused_until_it_is_pulled_again(hub: Hub, settings: Settings) -> None:
    folder = pull(BASE, settings)
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    _whole.clear()
    with pytest.raises(ServerFault, match=r"not as it was when it was downloaded .* tunesmith models pull mine"):
        materialise(BASE, settings)
    pull(BASE, settings)
    assert (materialise(BASE, settings) / WEIGHTS).read_bytes() == whole


@pytest.mark.parametrize(
    ("gated", "said"),
    [
        ((401, "GatedRepo"), r"owner/name is gated\. Accept its terms at .*, then log in here \(hf auth login"),
        ((403, "GatedRepo"), r"owner/name is gated\. Accept its terms at .* with the account whose token is used here"),
        ((401, ""), r"refuses access to owner/name \(401\)\. Log in"),
        ((403, ""), r"refuses access to owner/name \(403\)\. Log in"),
    ],
    ids=["401 gated", "403 gated", "401", "403"],
)
def test_files_that_are_not_given_out_come_with_the_cure(
    hub: Hub, settings: Settings, gated: tuple[int, str], said: str
) -> None:
    hub.gated = gated
    with pytest.raises(InvalidRequest, match=said):
        pull(BASE, settings)
    assert hub.fetched == []


def test_a_commit_that_is_gone_says_how_to_add_the_base_again(hub: Hub, settings: Settings) -> None:
    hub.refusals[REPOSITORY] = (404, "RevisionNotFound")
    with pytest.raises(InvalidRequest, match=r"no longer has the commit that was added\. Add the base again"):
        pull(BASE, settings)


def test_what_the_hub_says_is_known_before_the_weights_are_fetched(hub: Hub) -> None:
    hub.licence = "apache-2.0"
    listing, folder = look_up(HubRepository(REPOSITORY), "mine")
    assert (listing.revision, listing.licence) == (SHA, "apache-2.0")
    assert listing.size == sum(map(len, hub.files[REPOSITORY].values()))
    assert hub.fetched == ["config.json"]
    assert (folder / "config.json").is_file()
