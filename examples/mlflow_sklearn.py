"""Train a support vector machine on handwritten digits, tracked by MLflow's automatic logging, and register it if it is good."""

import mlflow
from mlflow import MlflowClient
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

NAME = "digits-svm"

mlflow.set_experiment("digits")
mlflow.sklearn.autolog()

images, digits = load_digits(return_X_y=True)
train_images, test_images, train_digits, test_digits = train_test_split(images, digits, test_size=0.2, random_state=0)

with mlflow.start_run(run_name="svm") as run:
    model = make_pipeline(StandardScaler(), SVC(C=10, gamma=0.01)).fit(train_images, train_digits)
    accuracy = model.score(test_images, test_digits)
    mlflow.log_metric("accuracy", accuracy)
    mlflow.log_text("\n".join(str(digit) for digit in model.predict(test_images)), "predictions.txt")

if accuracy > 0.97:
    version = mlflow.register_model(f"runs:/{run.info.run_id}/model", NAME)
    MlflowClient().set_registered_model_alias(NAME, "champion", version.version)
    champion = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    agreement = (champion.predict(test_images) == model.predict(test_images)).mean()
    print(f"{NAME} version {version.version}: accuracy {accuracy:.4f}, loaded again it agrees on {agreement:.0%}")
