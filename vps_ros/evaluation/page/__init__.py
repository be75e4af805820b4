"""The parts of the evaluation page; `vps_ros.evaluation.report` puts them together."""
