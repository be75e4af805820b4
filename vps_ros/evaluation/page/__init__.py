"""The parts of the HTML report; `vps_ros.evaluation.report` assembles them."""
