"""Run-length masks: the COCO encoding (column-major runs, zeros first), bounds-checked, in numpy.

Own code because pycocotools crashes the process on hostile strings and encodes one mask at a time;
`encode_ids` takes every instance of an id map in one pass. Strings equal those of pycocotools.
"""
