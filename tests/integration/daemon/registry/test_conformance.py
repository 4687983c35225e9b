"""What distribution-spec 1.1 asks of a registry, a test for each requirement of its conformance suite."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from integration.daemon.registry.conftest import INDEX, MANIFEST, Served, descriptor, digest_of

pytestmark = pytest.mark.root

NONE = digest_of(b"nothing has these bytes")


# ---- end-1: the API


def test_the_api_is_there(registry: Served) -> None:
    answer = registry("GET", "/v2/")
    assert (answer.status, answer.headers["Docker-Distribution-Api-Version"]) == (200, "registry/2.0")


# ---- pull


def test_a_blob_that_is_not_there(registry: Served, name: str) -> None:
    assert registry("HEAD", f"{name}/blobs/{NONE}").status == 404
    answer = registry("GET", f"{name}/blobs/{NONE}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


def test_a_blob_is_given_with_its_digest_and_length(registry: Served, name: str) -> None:
    data = secrets.token_bytes(100_000)
    digest = registry.push_blob(name, data)
    head = registry("HEAD", f"{name}/blobs/{digest}")
    assert (head.status, head.headers["Content-Length"], head.headers["Docker-Content-Digest"], head.body) == (
        200,
        "100000",
        digest,
        b"",
    )
    get = registry("GET", f"{name}/blobs/{digest}")
    assert (get.status, get.body, get.headers["Docker-Content-Digest"]) == (200, data, digest)


@pytest.mark.parametrize(
    ("asked", "start", "end"), [("0-0", 0, 0), ("10-19", 10, 19), ("99990-", 99990, 99999), ("-5", 99995, 99999)]
)
def test_a_range_of_a_blob(registry: Served, name: str, asked: str, start: int, end: int) -> None:
    data = secrets.token_bytes(100_000)
    digest = registry.push_blob(name, data)
    answer = registry("GET", f"{name}/blobs/{digest}", Range=f"bytes={asked}")
    assert (answer.status, answer.body) == (206, data[start : end + 1])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end}/100000"


def test_a_range_behind_the_end_is_refused(registry: Served, name: str) -> None:
    digest = registry.push_blob(name, b"short")
    assert registry("GET", f"{name}/blobs/{digest}", Range="bytes=100-200").status == 416


def test_a_manifest_that_is_not_there(registry: Served, name: str) -> None:
    for reference in ("latest", NONE):
        assert registry("HEAD", f"{name}/manifests/{reference}").status == 404
        answer = registry("GET", f"{name}/manifests/{reference}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


def test_a_manifest_by_tag_and_by_digest(registry: Served, name: str) -> None:
    digest, manifest = registry.push_image(name, "v1")
    for reference in ("v1", digest):
        head = registry("HEAD", f"{name}/manifests/{reference}")
        assert (head.status, head.headers["Docker-Content-Digest"], head.body) == (200, digest, b"")
        assert head.headers["Content-Length"] == str(len(manifest))
        get = registry("GET", f"{name}/manifests/{reference}", Accept=MANIFEST)
        assert (get.status, get.body, get.headers["Content-Type"]) == (200, manifest, MANIFEST)
        assert get.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize(
    "path", ["UPPER/manifests/x", "a//b/tags/list", "-a/tags/list", "a/manifests/.bad", "x" * 256 + "/tags/list"]
)
def test_bad_names_are_refused(registry: Served, path: str) -> None:
    assert registry("GET", path).status in (400, 404)


@pytest.mark.parametrize(
    "digest", ["sha256:abc", "md5:" + "a" * 32, "sha256:" + "A" * 64, "sha256:../../../etc/passwd"]
)
def test_bad_digests_are_refused(registry: Served, name: str, digest: str) -> None:
    assert registry("GET", f"{name}/blobs/{digest}").status in (400, 404)


# ---- push: blobs


def test_post_then_put(registry: Served, name: str) -> None:
    data = secrets.token_bytes(5000)
    begun = registry("POST", f"{name}/blobs/uploads/")
    assert (begun.status, begun.headers["Docker-Upload-UUID"] in begun.headers["Location"]) == (202, True)
    done = registry("PUT", f"{begun.headers['Location']}?digest={digest_of(data)}", data)
    assert (done.status, done.headers["Location"]) == (201, f"/v2/{name}/blobs/{digest_of(data)}")
    assert registry("GET", done.headers["Location"]).body == data
    assert registry("GET", begun.headers["Location"]).status == 404


def test_one_post_with_the_whole_blob(registry: Served, name: str) -> None:
    data = secrets.token_bytes(5000)
    done = registry("POST", f"{name}/blobs/uploads/?digest={digest_of(data)}", data)
    assert done.status == 201
    assert registry("GET", done.headers["Location"]).body == data


def test_a_streamed_upload(registry: Served, name: str) -> None:
    pieces = [secrets.token_bytes(300_000) for _ in range(10)]
    data = b"".join(pieces)
    where = registry("POST", f"{name}/blobs/uploads/").headers["Location"]
    patched = registry("PATCH", where, iter(pieces), Transfer_Encoding="chunked")
    assert (patched.status, patched.headers["Range"]) == (202, f"0-{len(data) - 1}")
    assert registry("PUT", f"{patched.headers['Location']}?digest={digest_of(data)}").status == 201
    assert registry("GET", f"{name}/blobs/{digest_of(data)}").body == data


def test_a_chunked_upload_and_its_status(registry: Served, name: str) -> None:
    data = secrets.token_bytes(30_000)
    where = registry("POST", f"{name}/blobs/uploads/").headers["Location"]
    for start in (0, 10_000):
        answer = registry("PATCH", where, data[start : start + 10_000], Content_Range=f"{start}-{start + 9999}")
        assert (answer.status, answer.headers["Range"]) == (202, f"0-{start + 9999}")
        where = answer.headers["Location"]
    status = registry("GET", where)
    assert (status.status, status.headers["Range"]) == (204, "0-19999")
    done = registry("PUT", f"{where}?digest={digest_of(data)}", data[20_000:], Content_Range="20000-29999")
    assert done.status == 201
    assert registry("GET", f"{name}/blobs/{digest_of(data)}").body == data


def test_chunks_out_of_order_are_refused_and_what_is_there_stays(registry: Served, name: str) -> None:
    where = registry("POST", f"{name}/blobs/uploads/").headers["Location"]
    assert registry("PATCH", where, b"a" * 100, Content_Range="0-99").status == 202
    for start in (50, 101, 0):
        refused = registry("PATCH", where, b"b" * 100, Content_Range=f"{start}-{start + 99}")
        assert (refused.status, refused.headers["Range"]) == (416, "0-99")
    assert registry("PUT", f"{where}?digest={digest_of(b'a' * 100)}").status == 201


def test_a_chunk_of_another_length_than_its_range_is_refused(registry: Served, name: str) -> None:
    where = registry("POST", f"{name}/blobs/uploads/").headers["Location"]
    assert registry("PATCH", where, b"a" * 50, Content_Range="0-99").status == 400
    assert registry("PATCH", where, b"a", Content_Range="nonsense").status == 400


def test_an_upload_that_is_given_up(registry: Served, name: str) -> None:
    where = registry("POST", f"{name}/blobs/uploads/").headers["Location"]
    assert registry("DELETE", where).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        answer = registry(method, where, b"x" if method == "PATCH" else None)
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_other_bytes_than_the_digests_are_refused(registry: Served, name: str) -> None:
    where = registry("POST", f"{name}/blobs/uploads/").headers["Location"]
    refused = registry("PUT", f"{where}?digest={NONE}", b"something else")
    assert (refused.status, refused.code) == (400, "DIGEST_INVALID")
    assert registry("HEAD", f"{name}/blobs/{NONE}").status == 404
    assert registry("GET", where).status == 404


def test_knowing_a_digest_is_not_having_its_bytes(registry: Served, name: str) -> None:
    secret = registry.push_blob(name, secrets.token_bytes(5000))
    where = registry("POST", f"{name}/other/blobs/uploads/").headers["Location"]
    refused = registry("PUT", f"{where}?digest={secret}", b"no idea")
    assert (refused.status, refused.code) == (400, "DIGEST_INVALID")
    assert registry("GET", f"{name}/other/blobs/{secret}").status == 404


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:short"])
def test_a_put_without_a_digest_is_refused(registry: Served, name: str, query: str) -> None:
    where = registry("POST", f"{name}/blobs/uploads/").headers["Location"]
    answer = registry("PUT", where + query, b"x")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_the_empty_blob(registry: Served, name: str) -> None:
    digest = registry.push_blob(name, b"")
    assert registry("GET", f"{name}/blobs/{digest}").body == b""


def test_a_blob_by_sha512(registry: Served, name: str) -> None:
    data = secrets.token_bytes(5000)
    digest = digest_of(data, "sha512")
    where = registry("POST", f"{name}/blobs/uploads/").headers["Location"]
    assert registry("PATCH", where, data).status == 202
    assert registry("PUT", f"{where}?digest={digest}").status == 201
    assert registry("GET", f"{name}/blobs/{digest}").body == data


def test_the_same_blob_pushed_twice(registry: Served, name: str) -> None:
    data = secrets.token_bytes(5000)
    assert registry.push_blob(name, data) == registry.push_blob(name, data)
    assert registry.push_blob(f"{name}/other", data) == digest_of(data)
    assert registry("GET", f"{name}/other/blobs/{digest_of(data)}").body == data


def test_a_blob_is_mounted_from_another_repository(registry: Served, name: str) -> None:
    data = secrets.token_bytes(5000)
    digest = registry.push_blob(name, data)
    assert registry("HEAD", f"{name}/other/blobs/{digest}").status == 404
    mounted = registry("POST", f"{name}/other/blobs/uploads/?mount={digest}&from={name}")
    assert (mounted.status, mounted.headers["Location"]) == (201, f"/v2/{name}/other/blobs/{digest}")
    assert registry("GET", mounted.headers["Location"]).body == data
    anywhere = registry("POST", f"{name}/third/blobs/uploads/?mount={digest}")
    assert anywhere.status == 201


def test_what_cannot_be_mounted_begins_an_upload(registry: Served, name: str) -> None:
    answer = registry("POST", f"{name}/blobs/uploads/?mount={NONE}&from={name}/other")
    assert answer.status == 202
    assert registry("GET", answer.headers["Location"]).status == 204


# ---- push: manifests


def test_a_manifest_is_put_by_tag(registry: Served, name: str) -> None:
    digest, manifest = registry.push_image(name)
    for tag in ("latest", "v1.0_x-2", "a" * 128):
        answer = registry("PUT", f"{name}/manifests/{tag}", manifest, Content_Type=MANIFEST)
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
        assert answer.headers["Location"] == f"/v2/{name}/manifests/{digest}"
    assert registry("PUT", f"{name}/manifests/{'a' * 129}", manifest, Content_Type=MANIFEST).status == 400


def test_a_tag_moves(registry: Served, name: str) -> None:
    first, _ = registry.push_image(name, "latest")
    second, _ = registry.push_image(name, "latest")
    assert registry("HEAD", f"{name}/manifests/latest").headers["Docker-Content-Digest"] == second
    assert registry("HEAD", f"{name}/manifests/{first}").status == 200


def test_a_manifest_under_another_digest_is_refused(registry: Served, name: str) -> None:
    _, manifest = registry.push_image(name)
    answer = registry("PUT", f"{name}/manifests/{NONE}", manifest, Content_Type=MANIFEST)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"schemaVersion": 2}',
        json.dumps({"schemaVersion": 2, "layers": [], "manifests": []}).encode(),
    ],
)
def test_what_is_no_manifest_is_refused(registry: Served, name: str, body: bytes) -> None:
    answer = registry("PUT", f"{name}/manifests/x", body, Content_Type=MANIFEST)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_a_manifest_of_another_type_than_it_says_is_refused(registry: Served, name: str) -> None:
    _, manifest = registry.push_image(name)
    answer = registry("PUT", f"{name}/manifests/x", manifest, Content_Type=INDEX)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_a_manifest_that_is_too_large_is_refused(registry: Served, name: str) -> None:
    answer = registry("PUT", f"{name}/manifests/x", b" " * (5 << 20), Content_Type=MANIFEST)
    assert answer.status == 413


def test_a_manifest_of_blobs_that_are_not_there_is_refused(registry: Served, name: str) -> None:
    _, manifest = registry.push_image(name)
    document = json.loads(manifest)
    document["layers"][0]["digest"] = NONE
    answer = registry("PUT", f"{name}/manifests/x", json.dumps(document).encode(), Content_Type=MANIFEST)
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    elsewhere = registry("PUT", f"{name}/elsewhere/manifests/x", manifest, Content_Type=MANIFEST)
    assert elsewhere.status == 404


def test_an_index(registry: Served, name: str) -> None:
    images = [registry.push_image(name) for _ in range(2)]
    entries = [descriptor(manifest, MANIFEST) for _, manifest in images]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    assert registry("PUT", f"{name}/manifests/many", index, Content_Type=INDEX).status == 201
    assert registry("GET", f"{name}/manifests/many").headers["Content-Type"] == INDEX
    entries[0]["digest"] = NONE
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    assert registry("PUT", f"{name}/manifests/many", index, Content_Type=INDEX).status == 404


# ---- content discovery


def test_tags_in_order_and_by_pages(registry: Served, name: str) -> None:
    _, manifest = registry.push_image(name)
    assert registry("GET", f"{name}/tags/list").json == {"name": name, "tags": []}
    for tag in ("c", "a", "d", "b"):
        registry("PUT", f"{name}/manifests/{tag}", manifest, Content_Type=MANIFEST)
    answer = registry("GET", f"{name}/tags/list")
    assert answer.json == {"name": name, "tags": ["a", "b", "c", "d"]}
    assert "Link" not in answer.headers
    assert registry("GET", f"{name}/tags/list?n=0").json["tags"] == []
    seen: list[str] = []
    path = f"/v2/{name}/tags/list?n=3"
    while path:
        page = registry("GET", path)
        seen += page.json["tags"]
        link = page.headers.get("Link", "")
        path = link[1 : link.index(">")] if link else ""
        assert not link or link.endswith('; rel="next"')
    assert seen == ["a", "b", "c", "d"]
    assert registry("GET", f"{name}/tags/list?last=b").json["tags"] == ["c", "d"]
    assert registry("GET", f"{name}/tags/list?n=1&last=b").json["tags"] == ["c"]
    assert registry("GET", f"{name}/tags/list?n=x").status == 400


def test_tags_of_no_repository(registry: Served, name: str) -> None:
    answer = registry("GET", f"{name}/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


def test_the_catalog(registry: Served, name: str) -> None:
    registry.push_image(f"{name}/one", "x")
    registry.push_image(f"{name}/two")
    assert {f"{name}/one", f"{name}/two"} <= set(registry("GET", "_catalog").json["repositories"])
    page = registry("GET", f"_catalog?n=1&last={name}/one")
    assert page.json["repositories"] == [f"{name}/two"]


def _artifact(registry: Served, name: str, subject: bytes, **fields: Any) -> tuple[str, bytes]:
    return registry.push_image(name, subject=descriptor(subject, MANIFEST), **fields)


def test_referrers_and_their_filter(registry: Served, name: str) -> None:
    digest, manifest = registry.push_image(name, "v1")
    none = registry("GET", f"{name}/referrers/{digest}")
    assert (none.status, none.headers["Content-Type"], none.json["manifests"]) == (200, INDEX, [])
    sbom, sbom_manifest = _artifact(registry, name, manifest, artifactType="text/sbom", annotations={"k": "v"})
    plain, _ = _artifact(registry, name, manifest)
    found = registry("GET", f"{name}/referrers/{digest}").json
    assert (found["schemaVersion"], found["mediaType"]) == (2, INDEX)
    by_digest = {entry["digest"]: entry for entry in found["manifests"]}
    assert by_digest[sbom] == {
        "mediaType": MANIFEST,
        "digest": sbom,
        "size": len(sbom_manifest),
        "artifactType": "text/sbom",
        "annotations": {"k": "v"},
    }
    assert by_digest[plain]["artifactType"] == "application/vnd.oci.image.config.v1+json"
    assert "annotations" not in by_digest[plain]
    filtered = registry("GET", f"{name}/referrers/{digest}?artifactType=text/sbom")
    assert [entry["digest"] for entry in filtered.json["manifests"]] == [sbom]
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert registry("GET", f"{name}/other/referrers/{digest}").json["manifests"] == []
    assert registry("DELETE", f"{name}/manifests/{sbom}").status == 202
    left = registry("GET", f"{name}/referrers/{digest}").json["manifests"]
    assert [entry["digest"] for entry in left] == [plain]


def test_a_manifest_may_come_before_its_subject(registry: Served, name: str) -> None:
    subject = b'{"not": "here"}'
    digest, manifest = _artifact(registry, name, subject)
    again = registry("PUT", f"{name}/manifests/{digest}", manifest, Content_Type=MANIFEST)
    assert again.headers["OCI-Subject"] == digest_of(subject)
    found = registry("GET", f"{name}/referrers/{digest_of(subject)}").json["manifests"]
    assert [entry["digest"] for entry in found] == [digest]


def test_referrers_of_what_is_no_digest(registry: Served, name: str) -> None:
    assert registry("GET", f"{name}/referrers/latest").status == 400


# ---- content management


def test_a_tag_is_deleted_and_its_manifest_stays(registry: Served, name: str) -> None:
    digest, _ = registry.push_image(name, "v1")
    assert registry("DELETE", f"{name}/manifests/v1").status == 202
    assert registry("GET", f"{name}/manifests/v1").status == 404
    assert registry("GET", f"{name}/manifests/{digest}").status == 200
    assert registry("DELETE", f"{name}/manifests/v1").status == 404


def test_a_manifest_is_deleted_with_its_tags(registry: Served, name: str) -> None:
    digest, manifest = registry.push_image(name, "v1")
    registry("PUT", f"{name}/manifests/v2", manifest, Content_Type=MANIFEST)
    assert registry("DELETE", f"{name}/manifests/{digest}").status == 202
    for reference in (digest, "v1", "v2"):
        assert registry("GET", f"{name}/manifests/{reference}").status == 404
    answer = registry("DELETE", f"{name}/manifests/{digest}")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


def test_a_deleted_manifest_of_one_repository_stays_in_another(registry: Served, name: str) -> None:
    digest, manifest = registry.push_image(name, "v1")
    for descriptor_ in (json.loads(manifest)["config"], *json.loads(manifest)["layers"]):
        registry("POST", f"{name}/other/blobs/uploads/?mount={descriptor_['digest']}&from={name}")
    assert registry("PUT", f"{name}/other/manifests/v1", manifest, Content_Type=MANIFEST).status == 201
    assert registry("DELETE", f"{name}/manifests/{digest}").status == 202
    assert registry("GET", f"{name}/other/manifests/v1").body == manifest


def test_a_blob_is_deleted(registry: Served, name: str) -> None:
    digest = registry.push_blob(name, secrets.token_bytes(100))
    assert registry("DELETE", f"{name}/blobs/{digest}").status == 202
    assert registry("GET", f"{name}/blobs/{digest}").status == 404
    answer = registry("DELETE", f"{name}/blobs/{digest}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


def test_other_methods_are_refused(registry: Served, name: str) -> None:
    answer = registry("POST", f"{name}/tags/list")
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert "GET" in answer.headers["Allow"]
