"""Labels go out in a format and come back as they were; what a format cannot hold is refused, and bad files are named."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given

from aidos.schemas.dataforge.label_schema import LabelSchema
from data_pipelines.dataforge.labelling.errors import FormatCannotHold, ItemUnknown, LabelFileInvalid
from data_pipelines.dataforge.labelling.formats.catalogue import FORMATS
from data_pipelines.dataforge.labelling.formats.common import Paths
from data_pipelines.dataforge.labelling.labels import check_value
from data_pipelines.dataforge.labelling.models import Item, Record
from tests.dataforge.labelling.drawn import KINDS, SHAPES, labelled

Drawn = tuple[LabelSchema, list[Record]]


def there_and_back(format: str, drawn: Drawn) -> list[Record]:
    schema, records = drawn
    files = FORMATS[format].write(schema, records)
    known = {record.path: record.size for record in records}
    found = FORMATS[format].read(schema, files, known)
    return [
        Record(
            each.path,
            check_value(schema, each.value, Item(each.path, size=each.size or (20_000, 20_000))),
            each.row,
            each.size,
            each.annotator,
        )
        for each in found
    ]


def counted(records: list[Record]) -> Counter[str]:
    return Counter(json.dumps([r.path, r.row, r.size, r.annotator, dict(r.value)], sort_keys=True) for r in records)


class TestRoundTrip:
    @given(labelled())
    def test_jsonl_loses_nothing(self, drawn: Drawn) -> None:
        assert there_and_back("jsonl", drawn) == drawn[1]

    @given(labelled())
    def test_csv_loses_nothing(self, drawn: Drawn) -> None:
        assert there_and_back("csv", drawn) == drawn[1]

    @given(labelled(sized=True))
    def test_label_studio_loses_nothing(self, drawn: Drawn) -> None:
        assert counted(there_and_back("labelstudio", drawn)) == counted(drawn[1])

    @given(labelled(tuple(kind for kind in KINDS if kind not in SHAPES)))
    def test_label_studio_needs_no_sizes_without_shapes(self, drawn: Drawn) -> None:
        assert counted(there_and_back("labelstudio", drawn)) == counted(drawn[1])

    @given(labelled(rows=False, sized=True))
    def test_coco_loses_nothing(self, drawn: Drawn) -> None:
        assert counted(there_and_back("coco", drawn)) == counted(drawn[1])

    @given(labelled(SHAPES, most=1, rows=False, annotators=False, sized=True))
    def test_yolo_loses_nothing(self, drawn: Drawn) -> None:
        try:
            assert counted(there_and_back("yolo", drawn)) == counted(drawn[1])
        except FormatCannotHold as refused:
            assume("label files would have one name" not in str(refused))
            raise

    @given(labelled(SHAPES, most=1, rows=False, annotators=False))
    def test_voc_loses_nothing(self, drawn: Drawn) -> None:
        try:
            assert counted(there_and_back("voc", drawn)) == counted(drawn[1])
        except FormatCannotHold as refused:
            assume("label files would have one name" not in str(refused) and "XML" not in str(refused))
            raise


def schema_of(*questions: dict[str, Any]) -> LabelSchema:
    return LabelSchema.model_validate({"questions": list(questions)})


BOXES = schema_of({"name": "objects", "kind": "boxes", "labels": ["cat", "dog"]})
OUTLINES = schema_of({"name": "objects", "kind": "polygons", "labels": ["cat", "dog"]})
KIND = schema_of({"name": "kind", "kind": "classification", "labels": ["cat", "dog"]})
CAT = {"label": "cat", "x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0}


class TestOtherToolsFiles:
    def test_coco_as_it_is_published(self) -> None:
        document = {
            "images": [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 480}, {"id": 8, "file_name": "b.jpg", "width": 9, "height": 9}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 17, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0,
                             "segmentation": [[10, 20, 40, 20, 40, 60]]}],
            "categories": [{"id": 17, "name": "cat", "supercategory": "animal"}],
        }  # fmt: skip
        files = {"instances.json": json.dumps(document).encode()}
        found = FORMATS["coco"].read(BOXES, files, {})
        assert found == [Record("a.jpg", {"objects": [CAT]}, None, (640, 480)), Record("b.jpg", {"objects": []}, None, (9, 9))]
        outlines = FORMATS["coco"].read(OUTLINES, files, {})
        assert outlines[0].value["objects"][0]["points"] == [[10.0, 20.0], [40.0, 20.0], [40.0, 60.0]]

    def test_yolo_without_our_sidecar_uses_the_known_sizes(self) -> None:
        files = {"data.yaml": b"names: [dog, cat]\n", "labels/a.txt": b"1 0.25 0.4 0.3 0.4\n"}
        found = FORMATS["yolo"].read(BOXES, files, {"a.png": (100, 100), "b.png": (5, 5)})
        assert found == [Record("a.png", {"objects": [CAT]}, None, (100, 100))]
        with pytest.raises(LabelFileInvalid, match="size of 'a.png' is not known"):
            FORMATS["yolo"].read(BOXES, files, {"a.png": None})

    def test_voc_as_labelimg_writes_it(self) -> None:
        text = """<annotation><folder>images</folder><filename>a.jpg</filename><path>C:\\x\\a.jpg</path>
            <size><width>100</width><height>90</height><depth>3</depth></size>
            <object><name>cat</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object></annotation>"""
        assert FORMATS["voc"].read(BOXES, {"a.xml": text.encode()}, {}) == [Record("images/a.jpg", {"objects": [CAT]}, None, (100, 90))]

    def test_label_studio_as_it_exports(self) -> None:
        value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]}
        result = {"from_name": "objects", "to_name": "image", "type": "rectanglelabels", "original_width": 100, "original_height": 100,
                  "value": value}  # fmt: skip
        annotations = [{"completed_by": {"email": "ada@example.org"}, "result": [result]}, {"was_cancelled": True, "result": []}]
        files = {"e.json": json.dumps([{"data": {"image": "/data/upload/3/scans/a.jpg"}, "annotations": annotations}]).encode()}
        found = FORMATS["labelstudio"].read(BOXES, files, {"scans/a.jpg": None, "a.png": None})
        assert found == [Record("scans/a.jpg", {"objects": [CAT]}, None, (100, 100), "ada@example.org")]

    def test_a_path_is_found_by_its_end_unless_two_fit(self) -> None:
        paths = Paths(["train/a.jpg", "test/a.jpg", "b.jpg"], "pets")
        assert paths.find("s3://bucket/x/train/a.jpg") == "train/a.jpg" and paths.find("elsewhere/b.jpg") == "b.jpg"
        for unclear in ("a.jpg", "c.jpg"):
            with pytest.raises(ItemUnknown, match=unclear):
                paths.find(unclear)


class TestWhatAFormatCannotHold:
    @pytest.mark.parametrize(
        ("format", "schema", "record", "what"),
        [
            ("yolo", BOXES, Record("a.png", {"objects": [CAT]}), "whose size is not known"),
            ("yolo", KIND, Record("a.png", {"kind": "cat"}, None, (9, 9)), "other than one question"),
            ("voc", BOXES, Record("a.png", {"objects": []}, None, (9, 9), "ada"), "single annotators"),
            ("voc", BOXES, Record("a.csv", {"objects": []}, 3), "labels of rows"),
            ("coco", BOXES, Record("a.csv", {"objects": []}, 3), "labels of rows"),
            ("labelstudio", BOXES, Record("a.png", {"objects": [CAT]}), "whose size is not known"),
        ],
    )
    def test_is_refused_and_said(self, format: str, schema: LabelSchema, record: Record, what: str) -> None:
        with pytest.raises(FormatCannotHold, match=what):
            FORMATS[format].write(schema, [record])

    def test_two_images_whose_label_files_would_have_one_name(self) -> None:
        records = [Record(path, {"objects": []}, None, (9, 9)) for path in ("x/a.png", "x/a.jpg")]
        for format in ("yolo", "voc"):
            with pytest.raises(FormatCannotHold, match=r"x/a\.png.*x/a\.jpg"):
                FORMATS[format].write(BOXES, records)


BOMB = b'<!DOCTYPE a [<!ENTITY b "xx"><!ENTITY c "&b;&b;">]><annotation><filename>&c;</filename></annotation>'


class TestBadFiles:
    @pytest.mark.parametrize(
        ("format", "files", "reason"),
        [
            ("jsonl", {"l.jsonl": b'{"path": "a", "value": {}}\n{broken\n'}, "line 2"),
            ("jsonl", {"l.jsonl": b"[]\n"}, "line 1"),
            ("jsonl", {"l.jsonl": b"\xff\xfe"}, "byte 0 is not UTF-8"),
            ("jsonl", {}, "one file that ends in .jsonl"),
            ("csv", {"l.csv": b"path,kind\na,cat,more\n"}, "line 2: 3 cells, and the header has 2"),
            ("csv", {"l.csv": b"kind\ncat\n"}, "'path' among them"),
            ("csv", {"l.csv": b'path,kind\n"a,cat\n'}, "line"),
            ("csv", {"l.csv": b"path,row\na,x\n"}, "'row' must be a number"),
            ("coco", {"c.json": b"{}"}, "lacks 'categories'"),
            ("coco", {"c.json": b"[1]"}, "another form"),
            ("coco", {"c.json": b'{"images": [{"id": 1, "file_name": "a", "width": -1, "height": 2}], "annotations": [], "categories": []}'}, "-1 by 2"),
            ("yolo", {"labels/a.txt": b"5 0 0 1 1\n"}, "'5' is no class"),
            ("yolo", {"labels/a.txt": b"0 0 0 1\n"}, "four numbers, got 3"),
            ("yolo", {"labels/a.txt": b"0 0 0 x 1\n"}, "'x' is no number"),
            ("yolo", {"labels/z.txt": b""}, "no image of that name"),
            ("yolo", {"data.yaml": b"names: [unicorn]"}, "no label 'unicorn'"),
            ("yolo", {"data.yaml": b"!!python/object:os.system {}"}, "no list 'names'"),
            ("voc", {"a.xml": BOMB}, "not plain XML"),
            ("voc", {"a.xml": b"<annotation/>"}, "no 'filename'"),
            ("voc", {"a.xml": b"<annotation><filename>a</filename><object><name>cat</name></object></annotation>"}, "no number"),
            ("labelstudio", {"l.json": b'[{"data": {"path": "a"}, "annotations": [{"result": [{"from_name": "x", "type": "y"}]}]}]'}, "no question 'x'"),
            ("labelstudio", {"l.json": b'{"a": 1}'}, "another form"),
        ],
    )  # fmt: skip
    def test_are_refused_with_the_place(self, format: str, files: dict[str, bytes], reason: str) -> None:
        with pytest.raises(LabelFileInvalid, match=reason):
            FORMATS[format].read(BOXES, files, {"a.png": (9, 9)})
