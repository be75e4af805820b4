"""The rclpy node; the only folder that imports rclpy."""
