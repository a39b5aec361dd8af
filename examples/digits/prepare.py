"""Write scikit-learn's handwritten digits as PNG files: `python prepare.py [FOLDER]`.

1,797 real 8x8 images (Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998) in
FOLDER/train/<digit>/ and FOLDER/test/<digit>/, and FOLDER/labels.csv, which names them all; every fifth image of each digit is
held out, always the same ones.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def write_digits(folder: Path) -> int:
    """Write the images that are missing, and labels.csv; returns how many images there are."""
    images, labels = load_digits(return_X_y=True)
    numbers = np.arange(len(labels))
    _, held_out = train_test_split(numbers, test_size=0.2, stratify=labels, random_state=0)
    held_out = set(held_out.tolist())
    rows = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / ("test" if number in held_out else "train") / str(label) / f"{number:04d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image.reshape(8, 8) * 15.9375).astype(np.uint8)).save(path)
        rows.append((path.relative_to(folder).as_posix(), label))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "digit"), *rows])
    return len(labels)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "digits")
    print(f"{write_digits(target)} images in {target}")
