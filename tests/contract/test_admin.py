"""The admin API and its walls, driven by the current official client."""

import os
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import BaseModel
from openai.types.admin.organization import AdminAPIKey, Project
from openai.types.admin.organization.projects import ProjectAPIKey
from openai.types.admin.organization.usage_completions_response import (
    DataResultOrganizationUsageCompletionsResult as CompletionsResult,
)
from openai.types.admin.organization.usage_completions_response import UsageCompletionsResponse
from tests.servers import CLUSTER, Server


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="none", admin_api_key=server.key, max_retries=0) as client:
        yield client


def client_of(admin: openai.OpenAI, project: Project, role: str = "member") -> openai.OpenAI:
    """A client with a new key of the project."""
    path, body = f"/organization/projects/{project.id}/api_keys", {"name": "contract", "role": role}
    options: Any = {"security": {"admin_api_key_auth": True}}
    made = admin.post(path, body=body, options=options, cast_to=ProjectAPIKey)
    key = str(made.to_dict()["value"])
    return openai.OpenAI(base_url=admin.base_url, api_key=key, max_retries=0)


def strictly(kind: type[BaseModel], value: BaseModel) -> BaseModel:
    return kind.model_validate(value.to_dict(), strict=True)


def test_projects_are_made_paged_changed_and_archived(admin: openai.OpenAI) -> None:
    projects = admin.admin.organization.projects
    made = [projects.create(name=f"contract {number}") for number in range(3)]
    for project in made:
        strictly(Project, project)
    assert [one.id for one in projects.list(limit=1)][:3] == [one.id for one in reversed(made)]
    assert projects.update(made[0].id, name="renamed").name == "renamed"
    assert projects.archive(made[0].id).status == "archived"
    assert made[0].id not in {one.id for one in projects.list()}
    assert made[0].id in {one.id for one in projects.list(include_archived=True)}
    with pytest.raises(openai.NotFoundError, match="No such project"):
        projects.retrieve("proj_nobody")


def test_admin_keys_live_their_life(admin: openai.OpenAI, server: Server) -> None:
    keys = admin.admin.organization.admin_api_keys
    made = keys.create(name="robot", expires_in_seconds=3600)
    strictly(AdminAPIKey, keys.retrieve(made.id))
    assert made.id in {one.id for one in keys.list(limit=1)}
    with openai.OpenAI(base_url=server.base_url, api_key=made.value) as robot:
        assert robot.models.list().data
        assert keys.delete(made.id).deleted is True
        with pytest.raises(openai.AuthenticationError):
            robot.models.list()


def test_keys_of_a_project_open_it_alone(admin: openai.OpenAI, client: openai.OpenAI, training_file: str) -> None:
    project = admin.admin.organization.projects.create(name="walls")
    with client_of(admin, project) as member, client_of(admin, project, "read-only") as reader:
        with pytest.raises(openai.NotFoundError):
            member.files.retrieve(training_file)
        own = member.files.create(file=("own.txt", b"hello"), purpose="user_data")
        assert reader.files.retrieve(own.id).id == own.id
        with pytest.raises(openai.PermissionDeniedError, match="role read-only"):
            reader.files.delete(own.id)
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(own.id)
        with pytest.raises(openai.PermissionDeniedError, match="role member"):
            member.with_options(admin_api_key=member.api_key).admin.organization.projects.list()
        assert client.with_options(project=project.id).files.retrieve(own.id).id == own.id
        with pytest.raises(openai.AuthenticationError, match="OPENAI_PROJECT_ID"):
            member.with_options(project="default").files.list()
        listed = admin.admin.organization.projects.api_keys.list(project.id).data
        assert {one.name for one in listed} == {"contract"}
        strictly(ProjectAPIKey, listed[0])
        for key in listed:
            assert admin.admin.organization.projects.api_keys.delete(key.id, project_id=project.id).deleted is True
        with pytest.raises(openai.AuthenticationError):
            member.files.list()


def test_usage_is_counted_for_the_key_that_asked(admin: openai.OpenAI) -> None:
    project = admin.admin.organization.projects.create(name="usage")
    started = int(time.time())
    with client_of(admin, project) as member:
        asked: Any = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
        usage = member.chat.completions.create(**asked).usage
        list(member.chat.completions.create(**asked, stream=True))
    if os.environ.get(CLUSTER):  # the figures of another server are up to a second old
        time.sleep(1.5)
    answer = admin.admin.organization.usage.completions(
        start_time=started - 60, bucket_width="1d", project_ids=[project.id], group_by=["project_id", "model"]
    )
    strictly(UsageCompletionsResponse, answer)
    results = [result for bucket in answer.data for result in bucket.results]
    counted = [one for one in results if isinstance(one, CompletionsResult)]
    assert counted == results
    assert [(one.project_id, one.model, one.num_model_requests) for one in counted] == [
        (project.id, "smollm2-135m-instruct", 2)
    ]
    assert counted[0].input_tokens == 2 * usage.prompt_tokens
