"""Train a small network on handwritten digits, each epoch logged to MLflow by hand, and register the model with its signature."""

import mlflow
import numpy as np
import torch
from mlflow.models import infer_signature
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PARAMS = {"epochs": 8, "batch_size": 64, "lr": 3e-3, "hidden": 64, "seed": 0}


def load(seed: int) -> tuple[TensorDataset, TensorDataset]:
    images, digits = load_digits(return_X_y=True)
    split = train_test_split(images.astype(np.float32) / 16, digits, test_size=0.2, random_state=seed)
    train_images, test_images, train_digits, test_digits = map(torch.from_numpy, split)
    return TensorDataset(train_images, train_digits), TensorDataset(test_images, test_digits)


def train_epoch(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> float:
    model.train()
    total = 0.0
    for images, digits in loader:
        loss = nn.functional.cross_entropy(model(images), digits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model: nn.Module, data: TensorDataset) -> float:
    images, digits = data.tensors
    return (model.eval()(images).argmax(1) == digits).float().mean().item()


if __name__ == "__main__":
    torch.manual_seed(PARAMS["seed"])
    train, test = load(PARAMS["seed"])
    model = nn.Sequential(nn.Linear(64, PARAMS["hidden"]), nn.ReLU(), nn.Linear(PARAMS["hidden"], 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PARAMS["lr"])
    loader = DataLoader(train, batch_size=PARAMS["batch_size"], shuffle=True)

    mlflow.set_experiment("digits")
    with mlflow.start_run(run_name="network"):
        mlflow.log_params(PARAMS)
        mlflow.set_tag("optimizer", type(optimizer).__name__)
        for epoch in range(PARAMS["epochs"]):
            loss = train_epoch(model, loader, optimizer)
            mlflow.log_metrics({"loss": loss, "accuracy": evaluate(model, test)}, step=epoch)
        mlflow.log_text(str(model), "summary.txt")

        example = test.tensors[0][:2]
        signature = infer_signature(example.numpy(), model(example).detach().numpy())
        logged = mlflow.pytorch.log_model(
            model, name="model", input_example=example.numpy(), signature=signature, registered_model_name="digits-network"
        )

    loaded = mlflow.pyfunc.load_model(f"models:/digits-network/{logged.registered_model_version}")
    agreement = (loaded.predict(test.tensors[0].numpy()).argmax(1) == model(test.tensors[0]).argmax(1).numpy()).mean()
    print(f"{logged.model_uri}: accuracy {evaluate(model, test):.4f}, loaded again it agrees on {agreement:.0%}")
