"""Train a small convolutional network on handwritten digits: `aidos job submit --name digits --dataset digits@main --workers 2 -- python train.py`.

Data-parallel over the job's workers (gloo on CPUs, nccl on GPUs). A checkpoint is saved after every epoch, and whatever
is killed in the middle, the next attempt goes on from the last one.
"""

import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import ray.train
import torch
from PIL import Image
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_data_loader, prepare_model
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import aidos

EPOCHS, BATCH, RATE, SEED = 12, 64, 3e-3, 0


def build_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(64 * 16, 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, 10),
    )  # fmt: skip


def load_split(folder: Path) -> TensorDataset:
    paths = sorted(folder.glob("*/*.png"))
    images = np.stack([np.asarray(Image.open(path), dtype=np.float32) / 255 for path in paths])
    return TensorDataset(torch.from_numpy(images)[:, None], torch.tensor([int(path.parent.name) for path in paths]))


@torch.no_grad()
def measure_accuracy(model: nn.Module, data: TensorDataset, device: torch.device) -> float:
    images, labels = (tensor.to(device) for tensor in data.tensors)
    return (model.eval()(images).argmax(1) == labels).float().mean().item()


def train_worker(config: dict) -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rank = ray.train.get_context().get_world_rank()
    data = aidos.dataset("digits@main").to_local()
    test = load_split(data / "test")
    loader = prepare_data_loader(DataLoader(load_split(data / "train"), batch_size=config["batch"], shuffle=True))
    network = build_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=config["rate"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config["rate"], epochs=EPOCHS, steps_per_epoch=len(loader))

    first = 0
    with tempfile.TemporaryDirectory() as folder:
        if (step := aidos.load_checkpoint(folder)) is not None:
            saved = torch.load(Path(folder) / "state.pt", weights_only=True)
            network.load_state_dict(saved["network"])
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            first = step + 1
    model = prepare_model(network)
    device = ray.train.torch.get_device()

    with aidos.run() if rank == 0 else nullcontext() as run:
        for epoch in range(first, EPOCHS):
            loss = train_epoch(epoch, model, loader, optimizer, schedule)
            if rank == 0:
                metrics = {"loss": loss, "accuracy": measure_accuracy(network, test, device)}
                print(f"epoch {epoch}: loss {loss:.4f}, accuracy {metrics['accuracy']:.4f}", flush=True)
                run.log_metrics(metrics, step=epoch)
                save(epoch, metrics, network, optimizer, schedule)
        if rank == 0:
            version = register(run, network)
            print(f"accuracy {measure_accuracy(network, test, device):.4f}; registered digits@{version}", flush=True)


def train_epoch(epoch: int, model: nn.Module, loader: DataLoader, optimizer, schedule) -> float:
    model.train()
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    total = 0.0
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
    return total / len(loader)


def save(epoch: int, metrics: dict, network: nn.Module, optimizer, schedule) -> None:
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "state.pt")
        aidos.save_checkpoint(folder, step=epoch, metrics=metrics)


def register(run, network: nn.Module) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            network.cpu().eval(), (torch.zeros(2, 1, 8, 8),), path, input_names=["images"], output_names=["logits"],
            dynamic_shapes=[{0: torch.export.Dim("batch")}], dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
        return run.log_model(path, name="digits").version


if __name__ == "__main__":
    job = aidos.job()
    aidos.run(params={"epochs": EPOCHS, "batch": BATCH, "rate": RATE, "seed": SEED}).end()
    workers = ScalingConfig(num_workers=job.workers, use_gpu=job.gpus_per_worker > 0, resources_per_worker={"CPU": job.cpus_per_worker})
    settings = RunConfig(name="digits", storage_path=tempfile.mkdtemp(), failure_config=FailureConfig(max_failures=3))
    TorchTrainer(train_worker, train_loop_config={"batch": BATCH, "rate": RATE}, scaling_config=workers, run_config=settings).fit()
