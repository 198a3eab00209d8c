//! API objects: our own kinds, and the conversion of Kubernetes objects into the model.
